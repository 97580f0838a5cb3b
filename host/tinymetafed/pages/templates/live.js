// Keeps a live page up to date: the server sends the parts that have changed, and after a lost connection those since then.
"use strict";

const said = document.getElementById("connection");
let ahead = 0; // of this machine's clock, in seconds, from the server's

function say(text, isLost) {
  if (said.textContent !== text) said.textContent = text;
  said.classList.toggle("lost", isLost);
}

function replace(name, html) {
  const part = document.getElementById(name);
  if (part === null) {
    location.reload(); // the page has become one of another kind
    return;
  }
  const scrolled = [...part.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  const closed = part.querySelector("details:not([open])") !== null;
  part.innerHTML = html;
  part.querySelectorAll(".scroll").forEach((each, at) => { each.scrollLeft = scrolled[at] ?? 0; });
  if (closed) part.querySelectorAll("details").forEach((each) => each.removeAttribute("open"));
}

function tick() {
  for (const each of document.querySelectorAll("time[data-since]")) {
    const seconds = Math.max(0, Date.now() / 1000 - ahead - Number(each.dataset.since));
    const minutes = Math.floor(seconds / 60);
    if (seconds < 2) each.textContent = "under 2 s";
    else each.textContent = minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
  }
}

const source = new EventSource(document.body.dataset.events);
source.addEventListener("open", () => say("Live", false));
source.addEventListener("parts", (event) => {
  const { now, parts } = JSON.parse(event.data);
  ahead = Date.now() / 1000 - now;
  for (const [name, html] of Object.entries(parts)) replace(name, html);
  tick();
});
source.addEventListener("end", () => {
  source.close();
  clearInterval(clock);
  say("The command that served this page has ended; this is the last state.", true);
});
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) say("The server refuses; load the page again.", true);
  else say("No connection; trying again. This is the last state.", true);
});
const clock = setInterval(tick, 1000);
tick();
