// The page: takes what changes from /api/updates, shows it, and sends what is set to /api/settings.

import { drawChart, timeOfDay } from '/chart.js';
import { aboutPicture, connectPicture, openPicture } from '/picture.js';

/** Milliseconds without a word from the server after which its connection counts as lost: it speaks every second. */
const SILENCE = 4000;
/** Milliseconds after which a score says nothing of the picture any more. */
const OLD = 3000;
/** Milliseconds without a frame after which the picture is said to stand still. */
const STILL = 2000;
/** Milliseconds that what could not be done here stands in the place of what the monitor warns of. */
const COMPLAINT = 10000;
const STEP = 0.01;

const by = id => document.getElementById(id);
const body = document.body.dataset;
const state = { points: [], events: new Map(), settings: undefined, status: undefined, stats: undefined, ahead: 0, pictureAt: undefined };
let socket, heard = 0, chosen, retry = 500, full = false, refused = '', refusedAt = 0;

// ---- the connection

function connect() {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const own = socket = new WebSocket(`${scheme}://${location.host}/api/updates`);
  heard = performance.now();
  socket.onmessage = message => { if (own === socket) hear(JSON.parse(message.data)); };
  socket.onclose = () => { if (own === socket) lose(); };
}

function lose() {
  socket = undefined;
  if (!isOver()) setLink('lost', 'Connection lost');
  showCover();
  fetch('/api/state').then(answer => {
    if (answer.status === 401) location.reload();
    // It answers, but does not let this page listen.
    full = answer.ok;
  }).catch(() => {});
  setTimeout(connect, retry);
  retry = Math.min(retry * 1.5, 4000);
}

function hear(update) {
  const first = update.whole, wasOver = isOver();
  heard = performance.now();
  retry = 500;
  full = false;
  state.ahead = update.now - Date.now();
  if (first) {
    state.points = [];
    state.events.clear();
    by('events').replaceChildren();
    by('count').textContent = '';
    by('none').hidden = false;
  }
  state.pictureAt = update.picture_at ?? undefined;
  if (update.settings) showSettings(update.settings);
  for (const point of update.points) addPoint(point, update.now);
  for (const event of update.events) addEvent(event, first);
  if (chosen !== undefined && !state.events.has(chosen)) choose(undefined);
  if (update.stats) showStats(update.stats);
  if (update.status) state.status = update.status;
  // Somebody may go back in what has ended.
  if ((first || body.picture === 'none' && wasOver) && !isOver()) openPicture(state.status.picture);
  showStatus();
  showScore();
  showAlert();
}

function isOver() {
  return ['ended', 'failed'].includes(state.status?.phase);
}

function showStatus() {
  by('source').textContent = state.status.source + (state.status.records ? ' · events are recorded' : '');
  const words = { starting: 'Starting', live: 'Live', ended: 'The stream has ended', failed: 'The stream has failed' };
  setLink(state.status.phase, words[state.status.phase]);
  showComplaint();
  showCover();
}

/** Says that something could not be done. */
function complain(words) {
  refused = words;
  refusedAt = performance.now();
  showComplaint();
}

function showComplaint() {
  const isNew = refused && performance.now() - refusedAt < COMPLAINT;
  const words = isNew ? refused : state.status?.warning ?? '';
  if (by('complaint').textContent !== words) by('complaint').textContent = words;
}

function setLink(link, words) {
  if (body.link === link && by('link').lastElementChild.textContent === words) return;
  body.link = link;
  by('link').lastElementChild.textContent = words;
  document.title = link === 'live' ? 'acdclip monitor' : `${words} – acdclip monitor`;
}

function showCover() {
  const still = state.pictureAt && serverNow() - state.pictureAt;
  let words = '';
  if (full && !isOver()) words = 'As many viewers as are allowed are watching already.\nTrying again.';
  else if (body.link === 'lost') words = 'Connection lost\nThe picture is not live. Trying again.';
  else if (body.link === 'ended') words = 'The stream has ended.';
  else if (body.link === 'failed') words = `The stream has failed.\n${state.status.problem ?? ''}`;
  else if (body.link === 'starting' || body.link === 'connecting') words = 'Waiting for the first picture';
  else if (body.picture === 'none') words = 'Waiting for the picture';
  else if (still > STILL) words = `No new picture for ${Math.round(still / 1000)} s`;
  if (by('cover').textContent !== words) by('cover').textContent = words;
  by('cover').hidden = !words;
}

function serverNow() {
  return Date.now() + state.ahead;
}

// ---- the picture

connectPicture({
  isWanted: () => Boolean(socket) && !isOver(),
  newest: () => state.pictureAt,
  now: serverNow,
  isFull: () => full,
  full: isSo => { full = isSo; showCover(); },
});

// ---- the score and the events

function addPoint(point, now) {
  const last = state.points.at(-1);
  if (last?.at === point.at) state.points.pop();
  state.points.push(point);
  while (state.points[0].at < now - 600000) state.points.shift();
}

function showScore() {
  const last = state.points.at(-1);
  if (!last) return;
  const age = serverNow() - last.at;
  const isOld = age > OLD;
  by('score').textContent = isOld ? '–' : last.score.toFixed(2);
  by('level').style.width = isOld ? 0 : `${last.score * 100}%`;
  body.alarm = last.anomalous && !isOld ? 'yes' : 'no';
  const meaning = isOld ? `no new score for ${Math.round(age / 1000)} s` : last.quality ? `not judged: ${last.quality}` : last.anomalous ? '▲ something abnormal' : 'nothing abnormal found';
  if (by('meaning').textContent !== meaning) by('meaning').textContent = meaning;
}

function addEvent(event, isOld) {
  const known = state.events.get(event.id);
  state.events.set(event.id, event);
  const item = document.querySelector(`#events [data-id="${event.id}"]`) ?? newItem(event.id);
  fillItem(item, event);
  by('none').hidden = true;
  by('count').textContent = state.events.size;
  if (chosen === event.id) showPeak();
  if (state.settings?.muted) return;
  // One that goes on when the page is opened is as good as new, and one that is seen again after a jump.
  if ((!known && !(isOld && event.end)) || (known?.end && !event.end)) by('announcement').textContent = `Alert: something abnormal, score ${event.peak.toFixed(2)}`;
  else if (event.end && known && !known.end) by('news').textContent = `Event over after ${duration(event)}`;
}

function newItem(id) {
  const item = document.createElement('li');
  item.dataset.id = id;
  const button = document.createElement('button');
  button.type = 'button';
  button.onclick = () => {
    choose(id);
    if (state.status.seekable) jump(id);
  };
  const image = document.createElement('img');
  image.alt = '';
  button.append(image, ...['when', 'what', 'file'].map(name => Object.assign(document.createElement('span'), { className: name })));
  item.append(button);
  const after = [...by('events').children].find(other => Number(other.dataset.id) < id);
  by('events').insertBefore(item, after ?? null);
  return item;
}

function fillItem(item, event) {
  const [image, when, what, file] = item.firstElementChild.children;
  const source = event.picture ? `/api/events/${event.id}/peak.jpg?${event.picture}` : '';
  // Until an event has ended, a worse frame may come every moment; its picture is fetched once a second at most.
  if (source && image.getAttribute('src') !== source && (event.end || Date.now() - (image.dataset.at ?? 0) > 1000)) {
    image.src = source;
    image.dataset.at = Date.now();
  }
  when.textContent = moment(event);
  what.replaceChildren(`peak ${event.peak.toFixed(2)} · `, event.end ? duration(event) : Object.assign(document.createElement('span'), { className: 'open', textContent: '▲ now' }));
  file.textContent = event.clip ? 'recorded' : '';
  file.title = event.clip ?? '';
}

/** Where it is in a file, when it was in what is live. */
function moment(event) {
  if (!state.status?.seekable) return timeOfDay(event.begin);
  const seconds = Math.floor(event.stream_seconds), digits = number => String(number).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  return `${hours ? `${hours}:${digits(Math.floor(seconds / 60) % 60)}` : Math.floor(seconds / 60)}:${digits(seconds % 60)}`;
}

function duration(event) {
  const seconds = Math.max((event.end ?? serverNow()) - event.begin, 0) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function showAlert() {
  const open = [...state.events.values()].filter(event => !event.end);
  const isAlert = open.length > 0 && !state.settings?.muted && body.link === 'live';
  if (isAlert) {
    const peak = Math.max(...open.map(event => event.peak));
    const since = Math.max(...open.map(event => serverNow() - event.begin)) / 1000;
    by('alert-words').textContent = `Alert for ${Math.max(since, 0).toFixed(0)} s, peak ${peak.toFixed(2)}`;
  }
  body.alert = isAlert ? 'yes' : 'no';
}

// ---- an event's worst frame

function choose(id) {
  chosen = id;
  for (const item of by('events').children) {
    item.firstElementChild.setAttribute('aria-current', Number(item.dataset.id) === id);
  }
  showPeak();
  draw();
}

function showPeak() {
  const event = state.events.get(chosen);
  body.review = event ? 'yes' : 'no';
  by('peak').hidden = !event;
  if (!event) return;
  by('peak-words').textContent = `Not live: worst frame of the event at ${moment(event)}, score ${event.peak.toFixed(2)}, ${event.end ? duration(event) : 'going on'}`;
  const source = event.picture ? `/api/events/${event.id}/peak.jpg?${event.picture}` : '';
  if (by('peak-picture').getAttribute('src') !== source) by('peak-picture').src = source;
  by('peak-picture').alt = `Worst frame of the event at ${moment(event)}`;
  markPeak(event);
}

/** Four corners around where it was worst. */
function markPeak({ region, size }) {
  const marker = by('peak-marker');
  marker.replaceChildren();
  if (!region || !size[0]) return;
  marker.setAttribute('viewBox', `0 0 ${size[0]} ${size[1]}`);
  const [x, y, w, h] = region, arm = Math.min(w, h) / 4;
  const corner = (cx, cy, dx, dy) => `M${cx + dx * arm} ${cy}H${cx}V${cy + dy * arm}`;
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', [corner(x, y, 1, 1), corner(x + w, y, -1, 1), corner(x, y + h, 1, -1), corner(x + w, y + h, -1, -1)].join(''));
  marker.append(path);
}

/** Has a file go on from a little before an event, for everybody who watches. */
async function jump(id) {
  const answer = await fetch(`/api/events/${id}/jump`, { method: 'POST' }).catch(() => undefined);
  complain(answer?.ok ? '' : `Not gone back: ${answer ? (await answer.text()).trim() : 'no connection'}`);
  const event = state.events.get(id);
  if (answer?.ok && event) by('news').textContent = `The video goes on from before the event at ${moment(event)}`;
}

by('back').onclick = () => choose(undefined);

function step(by_how_much) {
  const ids = [...state.events.keys()].sort((a, b) => a - b);
  if (!ids.length) return;
  const at = ids.indexOf(chosen);
  const next = at < 0 ? ids.length - 1 : Math.min(Math.max(at + by_how_much, 0), ids.length - 1);
  choose(ids[next]);
  document.querySelector(`#events [data-id="${ids[next]}"] button`).focus();
}

// ---- settings

const sliders = { threshold: by('threshold'), map_threshold: by('map-threshold') };
let wanted = {}, sending;

function showSettings(settings) {
  state.settings = settings;
  for (const [name, slider] of Object.entries(sliders)) {
    // What is being set here is not pulled back by what was set before.
    if (name in wanted || sending) continue;
    showSlider(slider, settings[name]);
  }
  by('tick').style.left = `${settings.threshold * 100}%`;
  by('mute').setAttribute('aria-pressed', settings.muted);
  by('muted').hidden = !settings.muted;
}

function showSlider(slider, value) {
  slider.value = value;
  by(`${slider.id}-value`).textContent = Number(value).toFixed(2);
}

async function set(change) {
  Object.assign(wanted, change);
  if (sending) return;
  while (Object.keys(wanted).length) {
    const body = JSON.stringify(wanted);
    wanted = {};
    sending = fetch('/api/settings', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    try {
      const answer = await sending;
      if (!answer.ok) throw new Error(await answer.text());
      sending = undefined;
      showSettings(await answer.json());
    } catch (problem) {
      sending = undefined;
      complain(`Not set: ${problem.message}`);
      if (state.settings) showSettings(state.settings);
    }
  }
}

for (const [name, slider] of Object.entries(sliders)) {
  slider.oninput = () => {
    showSlider(slider, slider.value);
    set({ [name]: Number(slider.value) });
  };
}

function move(name, by_how_much) {
  const slider = sliders[name];
  showSlider(slider, Math.min(Math.max(Number(slider.value) + by_how_much, 0), 1).toFixed(2));
  set({ [name]: Number(slider.value) });
}

function mute() {
  set({ muted: by('mute').getAttribute('aria-pressed') !== 'true' });
}

by('mute').onclick = mute;

// ---- figures

function showStats(stats) {
  state.stats = stats;
  const ms = name => stats[name] === undefined ? '–' : `${(stats[name] / 1000).toFixed(stats[name] < 10000 ? 1 : 0)} ms`;
  const figures = {
    'Computed on': `${stats.device}, ${stats.precision}`,
    'Looks for': stats['class-name'],
    'Frames': `${stats.fps.toFixed(1)} a second`,
    'Added to the picture': ms('passage-p95-us'),
    'Network': ms('network-p50-us'),
    'Age of a result': ms('age-p95-us'),
    'Picture': aboutPicture(),
  };
  by('figures').replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const pair = document.createElement('div');
    pair.append(Object.assign(document.createElement('dt'), { textContent: name }), Object.assign(document.createElement('dd'), { textContent: value }));
    return pair;
  }));
  const rows = Object.entries(stats).sort(([a], [b]) => a < b ? -1 : 1).map(([name, value]) => {
    const row = document.createElement('tr');
    const shown = typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(2) : value;
    row.append(Object.assign(document.createElement('th'), { textContent: name, scope: 'row' }), Object.assign(document.createElement('td'), { textContent: shown }));
    return row;
  });
  by('stats').tBodies[0].replaceChildren(...rows);
}

// ---- keys

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const on = event.target;
  const ownsArrows = on.matches('input, select, textarea');
  const name = event.shiftKey ? 'map_threshold' : 'threshold';
  const actions = {
    m: mute, M: mute,
    e: toEvents, E: toEvents,
    '?': () => { by('keys').open = !by('keys').open; },
    Escape: () => { by('keys').open = false; choose(undefined); },
    ArrowUp: !ownsArrows && (() => move(name, STEP)),
    ArrowDown: !ownsArrows && (() => move(name, -STEP)),
    ArrowLeft: !ownsArrows && (() => step(-1)),
    ArrowRight: !ownsArrows && (() => step(1)),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

function toEvents() {
  by('events').querySelector('button')?.focus();
}

// ---- drawing

function draw() {
  drawChart(by('chart'), {
    points: state.points, events: [...state.events.values()], now: socket ? serverNow() : (state.points.at(-1)?.at ?? serverNow()),
    span: Number(by('span').value), threshold: state.settings?.threshold, chosen,
  });
}

function describe() {
  const last = state.points.at(-1);
  if (last) by('chart').setAttribute('aria-label', `Score over time, now ${last.score.toFixed(2)}, threshold ${(state.settings?.threshold ?? 0).toFixed(2)}, ${state.events.size} events`);
}

by('span').onchange = draw;
addEventListener('resize', draw);
setInterval(() => {
  if (socket && performance.now() - heard > SILENCE) {
    const silent = socket;
    lose();
    silent.close();
  }
  showCover();
  showComplaint();
  showScore();
  showAlert();
  draw();
}, 250);
setInterval(describe, 5000);
connect();
