// Drives the ops console in a real Chromium that shows a client certificate, and says what it saw.
//
// node console.mjs MODULES CHROMIUM JSON
//   MODULES   where playwright-core and axe-core are installed
//   CHROMIUM  the browser's executable
//   JSON      {"origin", "ops", "compliance", "model", "shots"?}: the admin plane, files of two
//             principals without .pem and .key, the page of a model, a directory for pictures
//
// Prints a JSON object: {"faults": […], "seen": {…}}.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [modules, executablePath, given] = process.argv.slice(2);
const { origin, model, shots, ...files } = JSON.parse(given);
const require = createRequire(join(modules, 'node_modules', 'none.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const faults = [];
const seen = { pages: 0, focused: [], violations: 0 };
const expect = (what, holds) => { if (!holds) faults.push(what); };

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

async function open(who, colorScheme, width, height) {
  const context = await browser.newContext({
    clientCertificates: [{ origin, certPath: `${files[who]}.pem`, keyPath: `${files[who]}.key` }],
    ignoreHTTPSErrors: true,
    colorScheme,
    viewport: { width, height },
  });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(`${page.url()}: console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`${page.url()}: ${error}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(origin)) faults.push(`asks for ${request.url()}`);
  });
  return page;
}

async function judge(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  for (const { id, impact, nodes } of violations) {
    seen.violations += 1;
    faults.push(`${what}: axe ${impact} ${id}: ${nodes.map((node) => node.target.join(' ')).slice(0, 3).join('; ')}`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(`${what}: is ${wide} pixels wider than the window`, wide <= 0);
}

async function picture(page, name) {
  const { width, height } = page.viewportSize();
  const whole = await page.evaluate(() => document.documentElement.scrollHeight);
  // A model wide: its drift.
  const y = name === 'model-dark-wide' ? await page.evaluate(() => document.querySelector('#drift').getBoundingClientRect().top + scrollY - 40) : 0;
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true, clip: { x: 0, y, width, height: Math.min(whole - y, width < 500 ? 1.5 * height : height) } });
}

const focused = (page) => page.evaluate(() => {
  const at = document.activeElement;
  const outline = getComputedStyle(at);
  return {
    name: at.textContent.trim().slice(0, 40) || at.id || at.tagName,
    id: at.id,
    visible: outline.outlineStyle !== 'none' && parseFloat(outline.outlineWidth) > 0,
  };
});

// Every page, in both themes, wide and narrow.
const pages = {
  overview: ['ops', '/console'],
  model: ['ops', model],
  callers: ['ops', '/console/callers'],
  configuration: ['ops', '/console/configuration'],
  audit: ['compliance', '/console/audit'],
};
for (const [theme, width, height] of [['light', 1200, 900], ['dark', 390, 844], ['dark', 1200, 900], ['light', 390, 844]]) {
  for (const [name, [who, path]] of Object.entries(pages)) {
    const page = await open(who, theme, width, height);
    const what = `${name}, ${theme}, ${width}`;
    const answer = await page.goto(origin + path);
    expect(`${what}: ${answer.status()}`, answer.status() === 200);
    expect(`${what}: may be cached`, answer.headers()['cache-control'] === 'no-store');
    await judge(page, what);
    for (const region of ['header', 'nav', 'main', 'footer']) expect(`${what}: no ${region}`, await page.locator(region).count() === 1);
    expect(`${what}: has a script`, await page.locator('script').count() === 0);
    seen.pages += 1;
    if (shots) await picture(page, `${name}-${theme}-${width < 500 ? 'narrow' : 'wide'}`);
    await page.context().close();
  }
}

// With the keyboard alone: past the navigation, to a control, which asks for a reason.
const page = await open('ops', 'light', 1200, 900);
await page.goto(origin + model);
await page.keyboard.press('Tab');
let at = await focused(page);
expect(`the first stop is ${at.name}`, at.name === 'Skip to content');
await page.keyboard.press('Enter');
expect('the skip link does not lead to the content', (await focused(page)).id === 'main');
for (let stops = 0; stops < 20 && at.name !== 'Quarantine this version'; stops += 1) {
  await page.keyboard.press('Tab');
  at = await focused(page);
  seen.focused.push(at.name);
  expect(`focus on ${at.name} cannot be seen`, at.visible);
}
expect('no way to the control', at.name === 'Quarantine this version');
await page.keyboard.press('Enter');
await page.keyboard.press('Tab');
expect('the form does not begin with the reason', (await focused(page)).id.startsWith('reason'));
await judge(page, 'an open control');
if (shots) await picture(page, 'control-light-wide');
await page.keyboard.press('Enter');
expect('a form without a reason was sent', page.url() === origin + model + '#main' || page.url() === origin + model);
await page.keyboard.type('Drill: the console works');
await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
seen.done = await page.locator('main').innerText();
await judge(page, 'what was done');
await page.goto(`${origin}/console`);
seen.stopped = await page.locator('#stops + *').innerText();
await page.locator('summary', { hasText: /^Release$/ }).first().click();
await page.getByLabel('Reason').filter({ visible: true }).fill('Drill is over');
await Promise.all([page.waitForNavigation(), page.getByRole('button', { name: 'Release' }).click()]);
seen.released = await page.locator('main').innerText();
await page.goto(`${origin}/console`);
seen.stoppedAfter = await page.locator('#stops + *').innerText();
await browser.close();
console.log(JSON.stringify({ faults, seen }));
