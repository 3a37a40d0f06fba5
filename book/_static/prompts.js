// Guesses, quizzes, and marks of what is done (book/_ext/prompts.py). All of it stays in this browser: localStorage, or
// in private windows without it, until the page is left.
(() => {
  const root = document.documentElement;
  const chapters = A3_CHAPTERS; // by name: how many prompts, how many questions
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const chapterOf = (address) => /\/notebooks\/(\w+)\.html$/.exec(new URL(address, location).pathname)?.[1];
  const here = chapterOf(location.href);

  // What is kept: { mode, guesses: { chapter: { prompt: text } }, shown: { chapter: { prompt: true } },
  // quizzes: { chapter: { question: { choice, right } } } }
  let memory = {};
  const read = () => {
    try {
      const kept = JSON.parse(localStorage.getItem("a3-book")) ?? memory;
      return typeof kept === "object" && !Array.isArray(kept) ? kept : {};
    } catch {
      return memory;
    }
  };
  // Reads again first: another tab may have written meanwhile.
  const change = (update) => {
    const kept = read();
    update(kept);
    memory = kept;
    try {
      localStorage.setItem("a3-book", JSON.stringify(kept));
    } catch {
      // No storage: the page itself remembers.
    }
    showProgress();
  };
  const part = (kept, name) => ((kept[name] ??= {})[here] ??= {});

  // Prompts

  const guesses = all(".ask-guess");
  const nameOf = (form) => form.dataset.prompt;
  const boxes = (name) => [...document.getElementsByClassName(`ask-of-${name}`)];
  const isShown = (name) => !!part(read(), "shown")[name];

  const showGuess = (form) => {
    const name = nameOf(form);
    const text = (part(read(), "guesses")[name] ?? "").trim();
    for (const line of all(`.ask-yours[data-prompt="${name}"]`)) {
      line.replaceChildren();
      line.title = text;
      if (text) line.append("You guessed: ", Object.assign(document.createElement("b"), { textContent: text }));
    }
  };
  const showBoxes = (form, shown) => {
    for (const box of boxes(nameOf(form))) box.classList.toggle("ask-shown", shown);
    const button = form.querySelector(".ask-show");
    button?.setAttribute("aria-expanded", shown);
    if (button) button.textContent = shown ? "Cover it again" : "Show the result";
  };
  const keep = (form) => {
    const text = form.querySelector("input").value.trim();
    change((kept) => {
      if (text) part(kept, "guesses")[nameOf(form)] = text;
      else delete part(kept, "guesses")[nameOf(form)];
    });
    showGuess(form);
    return text;
  };
  const reveal = (form, shown) => {
    change((kept) => {
      if (shown) part(kept, "shown")[nameOf(form)] = true;
      else delete part(kept, "shown")[nameOf(form)];
    });
    showBoxes(form, shown);
    say(form, shown ? "The result is shown below." : "The result is covered.");
  };
  const say = (form, words) => (form.querySelector(".ask-said").textContent = words);
  const covers = (form) => root.dataset.a3Prompts === "cover" && form.querySelector(".ask-show");

  for (const form of guesses) {
    const field = form.querySelector("input");
    field.addEventListener("change", () => keep(form));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = keep(form);
      if (covers(form)) reveal(form, true);
      else say(form, text ? "Kept. It stands beside the answer, too." : "There is no guess.");
    });
    form.querySelector(".ask-show")?.addEventListener("click", () => {
      keep(form);
      reveal(form, !isShown(nameOf(form)));
    });
    for (const box of boxes(nameOf(form))) {
      box.addEventListener("click", () => {
        if (covers(form) && !box.classList.contains("ask-shown")) reveal(form, true);
      });
    }
  }
  const restorePrompts = () => {
    const kept = part(read(), "guesses");
    for (const form of guesses) {
      form.querySelector("input").value = kept[nameOf(form)] ?? "";
      say(form, "");
      showGuess(form);
      showBoxes(form, isShown(nameOf(form)));
    }
  };

  // A link, or a search, that leads to something covered shows it.
  const uncover = (element) => {
    const box = element?.closest(".ask-answer:not(.ask-shown)");
    const form = box && guesses.find((one) => box.classList.contains(`ask-of-${nameOf(one)}`));
    if (form) showBoxes(form, true);
    return !!form;
  };
  const uncoverTarget = () => {
    if (!location.hash) return;
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (uncover(target) && root.dataset.a3Prompts === "cover") target.scrollIntoView();
  };
  addEventListener("hashchange", uncoverTarget);
  addEventListener("load", () => all(".highlighted").forEach(uncover));

  // How results are shown

  const modes = all(".ask-mode");
  const showMode = (mode) => {
    root.dataset.a3Prompts = mode;
    for (const select of modes) select.value = mode;
  };
  for (const select of modes) {
    select.addEventListener("change", () => {
      change((kept) => (kept.mode = select.value));
      // What is above the reader may come or go: keep the place of what is being used.
      const visible = select.getClientRects().length ? select : document.querySelector(".bd-article h1");
      const before = visible.getBoundingClientRect().top;
      showMode(select.value);
      const after = visible.getClientRects().length ? visible.getBoundingClientRect().top : before;
      scrollBy({ top: after - before, behavior: "instant" });
    });
  }
  for (const button of all(".ask-clear")) {
    button.addEventListener("click", () => {
      if (!confirm("Forget the guesses and quiz answers of all chapters on this device?")) return;
      change((kept) => {
        for (const name of ["guesses", "shown", "quizzes"]) delete kept[name];
      });
      restorePrompts();
      restoreQuiz();
      showProgress();
    });
  }

  // Quiz

  const questions = all(".ask-question");
  const judge = (form, chosen) => {
    const right = chosen === +form.dataset.right;
    const verdict = form.querySelector(".ask-verdict");
    for (const [i, choice] of all(".ask-choice", form).entries()) {
      choice.classList.toggle("ask-right", i === chosen && right);
      choice.classList.toggle("ask-wrong", i === chosen && !right);
    }
    verdict.classList.toggle("ask-right", right);
    verdict.replaceChildren();
    if (chosen === undefined) return right;
    const why = all(".ask-why", form)[chosen].cloneNode(true).childNodes;
    const word = Object.assign(document.createElement("b"), { textContent: right ? "✓ Right." : "✗ Not so." });
    verdict.append(word, " ", ...why);
    return right;
  };
  for (const form of questions) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = form.querySelector("input:checked");
      if (!chosen) {
        form.querySelector(".ask-verdict").textContent = "Choose an answer first.";
        return;
      }
      const choice = +chosen.value;
      const right = judge(form, choice);
      change((kept) => (part(kept, "quizzes")[form.dataset.question] = { choice, right }));
    });
  }
  const restoreQuiz = () => {
    const kept = part(read(), "quizzes");
    for (const form of questions) {
      const chosen = kept[form.dataset.question]?.choice;
      form.reset();
      judge(form, chosen);
      if (chosen !== undefined) all("input", form)[chosen].checked = true;
    }
  };

  // What is done

  const done = (chapter) => {
    const kept = read();
    const [prompts, asked] = chapters[chapter];
    // On the chapter's own page only what still stands there counts: texts change.
    const present = (name, found) =>
      chapter !== here || found.some((form) => Object.values(form.dataset).includes(name));
    const given = Object.keys(kept.guesses?.[chapter] ?? {}).filter((name) => present(name, guesses)).length;
    const right = Object.entries(kept.quizzes?.[chapter] ?? {}).filter(
      ([name, answer]) => answer.right && present(name, questions),
    ).length;
    return { guessed: Math.min(given, prompts), right: Math.min(right, asked), prompts, asked };
  };
  const inWords = ({ guessed, right, prompts, asked }) =>
    [prompts && `${guessed} of ${prompts} guesses`, asked && `${right} of ${asked} quiz questions right`]
      .filter(Boolean)
      .join(", ");

  const marks = all(".bd-sidebar-primary li.toctree-l1 > a.reference")
    .map((link) => ({ link, chapter: chapterOf(link.href) }))
    .filter(({ chapter }) => chapter in chapters);
  const cards = all(".sd-card")
    .map((card) => ({
      footer: card.querySelector(".sd-card-footer"),
      chapter: chapterOf(card.querySelector(".sd-card-header a[href]")?.href ?? location.href),
    }))
    .filter(({ footer, chapter }) => footer && chapter in chapters);

  function showProgress() {
    for (const { link, chapter } of marks) {
      const now = done(chapter);
      const share = (now.guessed + now.right) / (now.prompts + now.asked);
      let mark = link.querySelector(".ask-mark");
      if (!share) {
        mark?.remove();
        continue;
      }
      if (!mark) {
        mark = document.createElement("span");
        mark.className = "ask-mark";
        mark.append(document.createElement("span"));
        link.append(mark);
      }
      mark.style.setProperty("--done", `${Math.round(100 * share)}%`);
      mark.title = inWords(now);
      mark.firstChild.textContent = ` (${inWords(now)})`;
    }
    for (const { footer, chapter } of cards) {
      const now = done(chapter);
      let line = footer.querySelector(".ask-card-mark");
      if (!now.guessed && !now.right) {
        line?.remove();
        continue;
      }
      if (!line) {
        line = document.createElement("p");
        line.className = "ask-card-mark sd-card-text";
        footer.append(line);
      }
      line.textContent = `You: ${inWords(now)}`;
    }
    for (const line of all(".ask-progress")) {
      const now = done(here);
      line.textContent = now.guessed || now.right ? `This chapter: ${inWords(now)}.` : "";
    }
    for (const line of all(".ask-total")) {
      const parts = Object.keys(chapters).map(done);
      const sum = (name) => parts.reduce((total, one) => total + one[name], 0);
      const now = Object.fromEntries(["guessed", "right", "prompts", "asked"].map((name) => [name, sum(name)]));
      line.textContent = now.guessed || now.right ? `On this device: ${inWords(now)}.` : "Nothing is kept yet.";
    }
  }

  showMode(root.dataset.a3Prompts);
  restorePrompts();
  restoreQuiz();
  showProgress();
  uncoverTarget();
  addEventListener("storage", (event) => event.key === "a3-book" && showProgress());
})();
