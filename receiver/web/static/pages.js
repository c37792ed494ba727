// Keys, copying, and the pause of what refreshes itself. Every page works without it.
(() => {
  "use strict";
  const one = (query, within = document) => within.querySelector(query);
  const all = (query) => [...document.querySelectorAll(query)];

  // What refreshes itself: not while paused, out of sight, or in use.
  const pause = one("#pause");
  let isPaused = false;
  const toggle = () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
  };
  pause.hidden = !one("[hx-trigger]");
  pause.addEventListener("click", toggle);
  document.addEventListener("htmx:beforeRequest", (event) => {
    const isUsed = event.detail.elt.contains(document.activeElement);
    if (isPaused || document.hidden || isUsed) event.preventDefault();
  });

  // Said once when it changes, not each time.
  const wrong = () => all(".wrongs li").map((line) => line.id).join();
  let told = wrong();
  document.addEventListener("htmx:afterSwap", () => {
    if (wrong() === told) return;
    told = wrong();
    one("#told").textContent = told ? `${all(".wrongs li").length} wrong now` : "Nothing is wrong";
  });

  // Copying, where the browser lets pages do that.
  for (const text of navigator.clipboard ? all(".copy") : []) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "quiet copier", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy ${text.textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    text.after(" ", button);
  }

  // Keys: listed below each page, and to be switched off there.
  const keys = one("#keys"), isOn = one("#keys-on");
  keys.hidden = false;
  isOn.checked = localStorage.getItem("keys") !== "off";
  isOn.addEventListener("change", () => localStorage.setItem("keys", isOn.checked ? "on" : "off"));
  const places = { o: "/admin/", t: "/admin/tasks", s: "/admin/sinks", r: "/admin/replays" };
  const row = () => document.activeElement.closest("tbody tr");
  const step = (by) => {
    const rows = all("tbody tr").filter((each) => one("a", each));
    const at = rows.indexOf(row());
    const next = rows[at < 0 ? 0 : at + by];
    if (next) one("a", next).focus();
  };
  const acts = {
    "/": () => one("#find").focus(),
    j: () => step(1),
    k: () => step(-1),
    x: () => row() && one("input[type=checkbox]", row())?.click(),
    "]": () => one(".more a")?.click(),
    "[": () => history.back(),
    p: () => pause.hidden || toggle(),
    "?": () => { keys.open = true; one("summary", keys).focus(); },
  };
  let goes = false;
  document.addEventListener("keydown", (event) => {
    const isTyped = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (!isOn.checked || isTyped || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = goes && places[event.key];
    goes = event.key === "g";
    const act = place ? () => one(`nav a[href$="${place}"]`).click() : acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
