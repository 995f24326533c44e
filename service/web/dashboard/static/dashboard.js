// Live updates only: without this file every page works after a reload.
"use strict";
(() => {
  const busy = (part) =>
    part.querySelector("details[open], input:checked.pickone, :popover-open") !== null ||
    (part.contains(document.activeElement) && document.activeElement !== document.body);

  // A part that somebody reads, has ticked or has opened stays as it is.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    if (busy(event.detail.target)) event.detail.shouldSwap = false;
  });

  const shown = document.getElementById("live");
  const set = (words, paused) => {
    if (shown === null) return;
    shown.textContent = words;
    shown.classList.toggle("paused", paused);
  };
  document.addEventListener("htmx:sseOpen", () => set("Live", false));
  document.addEventListener("htmx:sseError", () => {
    if (shown === null || shown.classList.contains("paused")) return;
    const now = new Date();
    const two = (number) => String(number).padStart(2, "0");
    set(`Paused, since ${two(now.getUTCHours())}:${two(now.getUTCMinutes())} UTC`, true);
  });
})();
