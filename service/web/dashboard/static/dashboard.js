// Live updates only: without this file every page works after a reload.
"use strict";
(() => {
  const busy = (part) =>
    part.querySelector("details[open], input:checked.pickone, :popover-open") !== null ||
    (part.contains(document.activeElement) && document.activeElement !== document.body);

  const same = (part, fragment) =>
    fragment.firstElementChild !== null && part.isEqualNode(fragment.firstElementChild);

  // A part that somebody reads, has ticked or has opened stays as it is. One that has not changed does, too.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (busy(target) || same(target, fragment)) event.detail.shouldSwap = false;
  });

  const shown = document.getElementById("live");
  const set = (words, paused) => {
    if (shown === null) return;
    shown.textContent = words;
    shown.classList.toggle("paused", paused);
  };
  let missed = false;
  document.addEventListener("htmx:sseOpen", (event) => {
    set("Live", false);
    // What changed while the stream was down has no hint: the page reads its parts once.
    const reader = event.target.querySelector("[hx-get]");
    if (missed && reader !== null) htmx.trigger(reader, "sse:changed");
    missed = false;
  });
  document.addEventListener("htmx:sseError", () => {
    if (shown === null || shown.classList.contains("paused")) return;
    missed = true;
    const now = new Date();
    const two = (number) => String(number).padStart(2, "0");
    set(`Paused, since ${two(now.getUTCHours())}:${two(now.getUTCMinutes())} UTC`, true);
  });
})();
