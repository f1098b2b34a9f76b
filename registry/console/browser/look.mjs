// Looks at pages in a real Chromium, at both widths, light and dark: a picture of each, what axe finds, and
// what the browser complains of. It is started by a test with a JSON of what to look at on standard input,
// and prints a JSON of what it found:
//
//	in:  {"base", "chromium", "out", "user", "password", "pages": [{"name", "path", "user", "password", "do": [...]}]}
//	out: [{"page", "variant", "problems": [...]}]
//
// "do" are steps before the picture: ["fill", selector, text], ["click", selector], ["press", key],
// ["wait", selector], ["gone", selector], and ["text", selector, text], which has to come.
import { readFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const order = JSON.parse(readFileSync(0, "utf8"));
const axe = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const screens = [
  { name: "wide", viewport: { width: 1280, height: 900 } },
  { name: "phone", viewport: { width: 390, height: 844 }, hasTouch: true },
];

// What axe is asked: in the dark the elements of the page are the same (web/theme.js), and its colours are others.
const rules = {
  light: {},
  dark: { runOnly: { type: "tag", values: ["cat.color"] }, rules: { "color-contrast-enhanced": { enabled: false } } }, // which is off unless asked for
};

mkdirSync(order.out, { recursive: true });
const browser = await chromium.launch({ executablePath: order.chromium, args: ["--no-sandbox"] });
const found = [];
const logins = new Map(); // the cookies of each user
for (const screen of screens) {
  for (const page of order.pages) await look(page, screen);
}
await browser.close();
console.log(JSON.stringify(found));

// look opens a page on a screen, and looks at it light, then dark.
async function look(page, screen) {
  let problems = [];
  const { name, ...options } = screen;
  const context = await browser.newContext({ ...options, colorScheme: "light", ignoreHTTPSErrors: true, baseURL: order.base });
  try {
    const tab = await context.newPage();
    tab.setDefaultTimeout(60000); // on a machine that does other work beside
    tab.on("console", (m) => m.type() === "error" && !m.text().includes("status of") && problems.push(`console: ${m.text()}`));
    tab.on("pageerror", (e) => problems.push(`script: ${e}`));
    tab.on("request", (r) => {
      if (new URL(r.url()).origin !== new URL(order.base).origin) problems.push(`request leaves the host: ${r.url()}`);
    });
    const user = page.user ?? order.user;
    if (user) {
      if (!logins.has(user)) logins.set(user, await logIn(tab, user, page.password ?? order.password));
      await context.addCookies(logins.get(user));
    }
    await tab.goto(page.path, { waitUntil: "load" });
    for (const step of page.do ?? []) {
      await act(tab, step, problems);
    }
    await tab.evaluate(() => document.fonts.ready);
    // What scrolls is inside the page: the window becomes as high as it needs, so that the picture has all of it.
    const more = await tab.evaluate(() => {
      const main = document.getElementById("main");
      return main ? main.scrollHeight - main.clientHeight : 0;
    });
    if (more > 0) await tab.setViewportSize({ ...screen.viewport, height: screen.viewport.height + more });
    for (const colorScheme of ["light", "dark"]) {
      found.push({ page: page.name, variant: `${name}-${colorScheme}`, problems });
      await tab.emulateMedia({ colorScheme });
      await settled(tab);
      await examine(tab, join(order.out, `${page.name}.${name}-${colorScheme}.png`), problems, rules[colorScheme]);
      problems = [];
    }
  } catch (e) {
    problems.push(String(e));
    found.push({ page: page.name, variant: name, problems });
  } finally {
    await context.close();
  }
}

// settled waits until colours have changed: axe would measure the contrast of one on its way.
function settled(tab) {
  return tab.evaluate(() =>
    Promise.all(document.getAnimations().filter((a) => a instanceof CSSTransition).map((a) => a.finished.catch(() => {}))),
  );
}

// examine makes a picture, and looks for what is too wide and for what axe finds by some of its rules.
async function examine(tab, picture, problems, rules) {
  await tab.screenshot({ path: picture, fullPage: true, animations: "disabled" });
  const overflow = await tab.evaluate(() => {
    const main = document.getElementById("main"); // which clips what is wider
    return Math.max(document.documentElement.scrollWidth - innerWidth, main ? main.scrollWidth - main.clientWidth : 0);
  });
  if (overflow > 1) problems.push(`the page is ${overflow} pixels wider than the window`);
  // Not as a script of the page, which its Content-Security-Policy refuses.
  if (!(await tab.evaluate(() => "axe" in window))) await tab.evaluate(axe);
  const result = await tab.evaluate((rules) => axe.run(document, { resultTypes: ["violations"], ...rules }), rules);
  for (const v of result.violations.filter((v) => v.impact === "serious" || v.impact === "critical")) {
    problems.push(`axe ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(" | ")}`);
  }
}

// logIn logs in as people do, and returns the cookies.
async function logIn(tab, user, password) {
  await tab.goto("/login");
  await tab.fill("#user", user);
  await tab.fill("#password", password);
  await tab.press("#password", "Enter");
  await tab.waitForURL((url) => url.pathname !== "/login");
  return tab.context().cookies();
}

async function act(tab, [what, at, text], problems) {
  switch (what) {
    case "fill": return tab.fill(at, text);
    case "click": return tab.click(at);
    case "check": return tab.check(at);
    case "press": return tab.keyboard.press(at);
    case "wait": return tab.waitForSelector(at);
    case "gone": return tab.waitForSelector(at, { state: "detached" });
    case "path": return tab.waitForURL((url) => url.pathname === at);
    case "text": {
      // What moves comes in parts.
      await tab.locator(at).filter({ hasText: text }).first().waitFor().catch(() => {});
      const has = await tab.textContent(at);
      if (!has.includes(text)) problems.push(`${at} has ${JSON.stringify(has)}, and not ${text}`);
      return;
    }
  }
  problems.push(`there is no step ${what}`);
}
