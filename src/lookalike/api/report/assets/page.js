// The page itself: colors, what is said to screen readers, what is kept over a reload, and the reload of a live page.
(function () {
  "use strict";
  const page = JSON.parse(document.getElementById("data").textContent);
  const KEY = `lookalike:${page.name}`;
  const RELOAD = 5000;

  // A browser may refuse storage to a page that lies in a file.
  function stored(storage, key, value) {
    try {
      if (value === undefined) return JSON.parse(storage().getItem(key));
      storage().setItem(key, JSON.stringify(value));
    } catch (refused) { /* nothing is kept then */ }
    return null;
  }
  page.kept = stored(() => sessionStorage, KEY) ?? {};

  const spoken = document.createElement("p");
  spoken.className = "sr";
  spoken.setAttribute("aria-live", "polite");
  document.body.append(spoken);
  page.say = (text) => { spoken.textContent = text; };

  const THEMES = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  let theme = stored(() => localStorage, "lookalike:theme") ?? "auto";
  function dress() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
    button.setAttribute("aria-label", `Colors: ${theme === "auto" ? "as the system" : theme}`);
    document.dispatchEvent(new Event("dressed"));
  }
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    stored(() => localStorage, "lookalike:theme", theme);
    dress();
  });
  dress();

  startCurves(page);
  if (page.map) startMap(page);

  if (typeof page.kept.scroll === "number") scrollTo({ top: page.kept.scroll, behavior: "instant" });
  addEventListener("pagehide", () => stored(() => sessionStorage, KEY, { ...page.kept, scroll: scrollY }));
  if (page.live) {
    let busy = false;
    addEventListener("pointerdown", () => { busy = true; });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { busy = false; });
    setInterval(() => { if (!busy && !document.hidden) location.reload(); }, RELOAD);
  }
})();
