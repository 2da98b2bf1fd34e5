// The chat of examples/chat-web in two tabs of a headless Chromium, while its workers are
// killed, reloaded and upgraded: it talks in both directions all the time, and no tab loses
// its connection. Pictures are in build/.
//
//     NODE_PATH=/usr/share/nodejs node scripts/browser/chat.js
//
// Chromium is told what to do in its own protocol, over the ws package (Debian: node-ws).

'use strict';
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const WebSocket = require('ws');

const root = path.resolve(__dirname, '../..');
const program = path.join(root, 'build/moonpool');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'moonpool-browser-'));
const control = path.join(directory, 'control');
const PATIENCE = 20000;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(what + ' did not come true');
    await sleep(20);
  }
}

// -- the server ------------------------------------------------------------------------

function startServer() {
  const server = spawn(program, ['serve', path.join(root, 'examples/chat-web/app.lua'),
    '--survive', '--workers', '2', '--listen', '127.0.0.1:0', '--control', control]);
  server.log = '';
  server.stderr.on('data', (data) => { server.log += data; });
  return server;
}

function workers(server) {
  const file = `/proc/${server.pid}/task/${server.pid}/children`;
  return fs.readFileSync(file, 'utf8').trim().split(' ').filter(Boolean).map(Number);
}

// -- the browser -----------------------------------------------------------------------

function startBrowser() {
  return spawn('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu',
    '--remote-debugging-port=0', `--user-data-dir=${directory}/profile`,
    '--window-size=900,640', 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
}

async function connect(url) {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const waiting = new Map();
  let count = 0;
  await new Promise((done, fail) => socket.on('open', done).on('error', fail));
  socket.on('message', (text) => {
    const message = JSON.parse(text);
    const done = waiting.get(message.id);
    waiting.delete(message.id);
    if (done) done(message);
  });
  socket.call = (method, params, sessionId) => new Promise((done, fail) => {
    waiting.set(++count, (answer) => answer.error ? fail(new Error(answer.error.message))
      : done(answer.result));
    socket.send(JSON.stringify({ id: count, method, params, sessionId }));
  });
  return socket;
}

async function openBrowser() {
  const browser = startBrowser();
  let text = '';
  browser.stderr.on('data', (data) => { text += data; });
  const url = await until('a browser', () => text.match(/listening on (ws:\S+)/)?.[1]);
  browser.socket = await connect(url);
  return browser;
}

class Tab {
  static async open(browser, url, width, height) {
    const tab = new Tab();
    tab.socket = browser.socket;
    const { targetId } = await tab.socket.call('Target.createTarget', { url });
    const { sessionId } = await tab.socket.call('Target.attachToTarget',
      { targetId, flatten: true });
    tab.target = targetId;
    tab.session = sessionId;
    await tab.call('Emulation.setDeviceMetricsOverride',
      { width, height, deviceScaleFactor: 1, mobile: width < 500 });
    return tab;
  }

  close() { return this.socket.call('Target.closeTarget', { targetId: this.target }); }

  call(method, params) { return this.socket.call(method, params, this.session); }

  async run(expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate',
      { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
    return result.value;
  }

  text(id) { return this.run(`document.getElementById("${id}")?.textContent ?? ""`); }
  shows(id, text) {
    return until(`"${text}" in ${id}`, async () => (await this.text(id)).includes(text));
  }

  async say(text) {
    await this.run(`document.getElementById("text").value = ${JSON.stringify(text)};
      document.getElementById("say").requestSubmit()`);
  }

  async picture(name) {
    const { data } = await this.call('Page.captureScreenshot', { format: 'png' });
    fs.writeFileSync(path.join(root, 'build', name), Buffer.from(data, 'base64'));
  }
}

// -- what is shown ---------------------------------------------------------------------

async function talk(ada, bob, about) {
  await ada.say(`ada says: ${about}`);
  await bob.shows('list', `ada says: ${about}`);
  await bob.say(`bob says: ${about}`);
  await ada.shows('list', `bob says: ${about}`);
}

// More have, if a tab was on its way from one that was killed to another.
function died(tab, count) {
  return until(`${count} deaths`, async () => Number(await tab.text('deaths')) >= count);
}

async function lost(tab) { return Number(await tab.text('lost')); }

function killAll(server) {
  for (const pid of workers(server)) process.kill(pid, 'SIGKILL');
}

async function show(server, browser, address) {
  const ada = await Tab.open(browser, `http://${address}/?name=ada`, 900, 640);
  const bob = await Tab.open(browser, `http://${address}/?name=bob`, 390, 760);
  await ada.shows('online', 'bob');
  await talk(ada, bob, 'hello');
  for (let i = 1; i <= 3; i++) {
    killAll(server);
    await died(ada, i);
    await died(bob, i);
    await talk(ada, bob, `after ${i} kills`);
  }
  execFileSync(program, ['reload', '--control', control]);
  await talk(ada, bob, 'after a reload');
  execFileSync(program, ['upgrade', '--control', control]);
  await talk(ada, bob, 'after an upgrade');
  await ada.shows('online', 'bob');
  const news = await ada.text('list');
  if (news.includes('has left')) throw new Error(`somebody has left: ${news}`);
  await ada.picture('chat-web.png');
  await bob.picture('chat-web-phone.png');
  const lostByBob = await lost(bob);
  killAll(server);
  await bob.close();
  await until('the end of bob', async () => !(await ada.text('online')).includes('bob'));
  return { lost: await lost(ada) + lostByBob, deaths: await ada.text('deaths') };
}

async function main() {
  const server = startServer();
  let browser;
  try {
    const address = await until('a server', () =>
      /ready/.test(server.log) && server.log.match(/listening on (\S+)/)?.[1]);
    browser = await openBrowser();
    const seen = await show(server, browser, address);
    console.log(`connections lost: ${seen.lost}, workers that died under ada: ${seen.deaths}`);
    if (seen.lost !== 0) process.exitCode = 1;
  } catch (error) {
    console.error(error, server.log);
    process.exitCode = 1;
  } finally {
    browser?.socket?.terminate();
    browser?.kill();
    server.kill();
    await sleep(500);
    fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

main();
