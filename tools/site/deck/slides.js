// Reveal with settings for lectures, for phones, and for those who use a keyboard.
const print = /print-pdf/.test(location.search);
const phone = innerWidth < 700 && innerWidth < innerHeight && !print;
document.documentElement.classList.toggle("phone", phone);
const deck = document.querySelector(".reveal");

// A box that scrolls takes the keys while it has the focus. (An interactive figure has a frame of its own.)
const boxes = ".slides > section > section, pre, mjx-container, .text";
const scrolls = (box) => box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1;
function mark() {
  for (const box of Reveal.getCurrentSlide()?.parentElement.querySelectorAll(boxes) ?? []) {
    const needed = scrolls(box) && getComputedStyle(box).overflow !== "visible";
    box.toggleAttribute("data-scrolls", needed);
    box.toggleAttribute("data-prevent-swipe", needed);
    if (needed) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

// Keys that do something else where the focus is. All others turn the slides.
const taken = {
  "[data-scrolls]": ["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", " "],
  summary: ["Enter", " "],
};
const turns = (event) =>
  !Object.entries(taken).some(([where, keys]) => keys.includes(event.key) && event.target.closest(where));

const settings = {
  width: phone ? innerWidth : 1280,
  height: phone ? innerHeight : 720,
  margin: 0,
  center: false,
  display: "flex",
  hash: true,
  navigationMode: "linear", // the right arrow, or a click on it, leads through all slides
  scrollActivationWidth: 0,
  slideNumber: "c/t",
  transition: "none",
  pdfSeparateFragments: false,
  showNotes: /[?&]notes/.test(location.search) ? "separate-page" : false,
  keyboardCondition: turns,
  plugins: [RevealNotes],
};
(async () => {
  if (print) await MathJax.startup.promise; // a sheet of paper is measured once
  await Reveal.initialize(settings);
  await MathJax.startup.promise;
  Reveal.on("slidechanged", mark);
  Reveal.on("resize", mark);
  deck.addEventListener("toggle", mark, true); // a fold was opened
  mark();
  deck.dataset.ready = "true";
})();
