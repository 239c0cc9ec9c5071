// Fetches the page again every few seconds and swaps its content in; without JavaScript the page reloads itself.
"use strict";
const EVERY_MS = 3000;

async function refresh() {
  const open = new Set([...document.querySelectorAll("details[open]")].map((one) => one.closest("li").querySelector("progress").getAttribute("aria-label")));
  if (document.hidden || inUse()) return;
  const answer = await fetch(location.pathname, { headers: { accept: "text/html" }, credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const one of fresh.querySelectorAll("details")) {
    one.open = open.has(one.closest("li").querySelector("progress").getAttribute("aria-label"));
  }
  document.title = fresh.title;
  document.querySelector("header").replaceWith(fresh.querySelector("header"));
  document.querySelector("main").replaceWith(fresh.querySelector("main"));
}

// Somebody is at a form: what they have typed, ticked or focused is not taken from under their hands.
function inUse() {
  const changed = [...document.querySelectorAll("main input")].some((one) => one.type === "checkbox" ? one.checked !== one.defaultChecked : one.value !== one.defaultValue);
  return changed || document.activeElement.closest("form, button") !== null;
}

history.replaceState(null, "", location.pathname); // what a button said is said once
setInterval(() => refresh().catch(() => {}), EVERY_MS);
