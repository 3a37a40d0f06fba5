// What a reader taps: figures open in full size, and a link to a name of the API opens the fold that it is in.
(() => {
  const article = document.querySelector(".bd-article");
  if (!article) return;

  // Figures. The button is in the page's order, so that a keyboard reaches it; a click on the picture does the same.
  const dialog = document.createElement("dialog");
  dialog.className = "a3-large";
  dialog.setAttribute("aria-label", "Figure in full size");
  dialog.innerHTML =
    '<form method="dialog"><button class="a3-close">Close</button></form><div class="a3-sheet" tabindex="0"></div>';
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.lastElementChild.replaceChildren());
  const enlarge = (image) => {
    if (!dialog.isConnected) article.append(dialog);
    const copy = image.cloneNode();
    for (const name of ["style", "id", "loading"]) copy.removeAttribute(name);
    dialog.lastElementChild.replaceChildren(copy);
    dialog.showModal();
  };
  for (const image of article.querySelectorAll(".cell_output img, figure img")) {
    const link = image.closest("a"); // Sphinx links a picture that says its size to its own file
    if (image.closest("button, .a3-figure") || (link && !link.matches(".image-reference"))) continue;
    const button = document.createElement("button");
    button.className = "a3-enlarge";
    if (image.classList.contains("only-dark") || image.classList.contains("only-light"))
      button.classList.add(image.classList.contains("only-dark") ? "only-dark" : "only-light");
    button.textContent = "Full size";
    button.setAttribute("aria-label", `Full size: ${image.alt.split(/(?<=[.:]) /)[0]}`);
    (link ?? image).after(button);
    if (link) link.tabIndex = -1; // the button does the same
    for (const part of [link ?? image, button])
      part.addEventListener("click", (event) => {
        event.preventDefault();
        enlarge(image);
      });
  }

  // Folds of the API.
  const folds = [...article.querySelectorAll("details.a3-api")];
  if (!folds.length) return;
  const openPlace = () => {
    const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    for (let fold = place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const own = place.closest("dl")?.querySelector(":scope > dd > details.a3-api");
    if (place.matches("dt") && own) own.open = true;
    place.scrollIntoView({ behavior: "instant" });
  };
  addEventListener("hashchange", openPlace);
  openPlace();
  const all = document.createElement("button");
  all.className = "a3-open-all";
  const say = () => (all.textContent = folds.every((fold) => fold.open) ? "Close all" : "Open all");
  all.addEventListener("click", () => {
    const open = !folds.every((fold) => fold.open);
    for (const fold of folds) fold.open = open;
    say();
  });
  for (const fold of folds) fold.addEventListener("toggle", say);
  article.querySelector("h1").after(all);
  say();
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds.filter((fold) => !fold.open);
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => closed.forEach((fold) => (fold.open = false)));
})();
