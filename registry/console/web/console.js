// What moves in the console: htmx asks for parts of pages, and its extension takes server-sent
// events. The rest is what a browser does not do by itself.
import htmx from "htmx.org";
import "htmx-ext-sse";
window.htmx = htmx;

htmx.config.allowEval = false; // as the Content-Security-Policy has it
htmx.config.allowScriptTags = false;
htmx.config.includeIndicatorStyles = false; // they are in console.css
htmx.config.historyCacheSize = 0; // pages show what only this session may see
htmx.config.selfRequestsOnly = true;
// An error is a part of a page too, in the place that the server names.
htmx.config.responseHandling = [
  { code: "204", swap: false },
  { code: "[2345]..", swap: true },
];

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = document.body.dataset.csrf ?? "";
});

// After a login in another tab the server gives the value to send from now on.
document.addEventListener("htmx:afterRequest", (event) => {
  const csrf = event.detail.xhr.getResponseHeader("X-CSRF-Token");
  if (csrf) {
    document.body.dataset.csrf = csrf;
    document.querySelectorAll("input[name=csrf]").forEach((field) => (field.value = csrf));
  }
});

// What moves ends with its session: the server then refuses to go on, and a browser ends its tries. When the
// server is gone the browser goes on trying, and the page tells after a while that what it shows may be old.
let losing;
const lost = (is) => {
  clearTimeout(losing);
  losing = undefined;
  document.getElementById("lost").hidden = !is;
};
document.addEventListener("htmx:sseError", (event) => {
  if (event.detail.source.readyState === EventSource.CLOSED) {
    lost(false);
    document.getElementById("ended").hidden = false;
  } else {
    losing ??= setTimeout(lost, 4000, true);
  }
});
document.addEventListener("htmx:sseOpen", () => {
  lost(false);
  document.getElementById("ended").hidden = true;
});
document.addEventListener("htmx:sendError", () => lost(true));
document.addEventListener("htmx:afterOnLoad", (event) => {
  lost(false);
  if (event.detail.xhr.status < 400) {
    document.getElementById("problem").replaceChildren(); // it is of a request before
  }
});

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    void copyText(copy);
  }
  const toggle = event.target.closest("[data-toggle]");
  if (toggle) {
    const target = document.getElementById(toggle.dataset.toggle);
    const open = target.classList.toggle("pf-m-expanded");
    target.classList.toggle("pf-m-collapsed", !open);
    toggle.setAttribute("aria-expanded", String(open));
  }
});

// copyText copies what the button names and tells so for two seconds.
async function copyText(button) {
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
  const label = button.getAttribute("aria-label");
  button.setAttribute("aria-label", button.dataset.copied);
  button.classList.add("console-copied");
  setTimeout(() => {
    button.setAttribute("aria-label", label);
    button.classList.remove("console-copied");
  }, 2000);
}

// A wide screen shows the navigation, a narrow one has it behind its button.
const wide = matchMedia("(min-width: 75rem)");
const sidebar = () => {
  const bar = document.getElementById("sidebar");
  const toggle = document.querySelector("[data-toggle=sidebar]");
  bar?.classList.toggle("pf-m-expanded", wide.matches);
  bar?.classList.toggle("pf-m-collapsed", !wide.matches);
  toggle?.setAttribute("aria-expanded", String(wide.matches));
};
wide.addEventListener("change", sidebar);
document.addEventListener("DOMContentLoaded", sidebar);
