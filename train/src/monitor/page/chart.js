// The chart of the score over the last minutes, on a canvas.

const COLOURS = { score: '#56b4e9', alarm: '#e69f00', ink: '#e8eef4', soft: '#a3b1bf', line: '#2c3642', band: '#e69f0030', chosen: '#56b4e955' };
const LEFT = 34, RIGHT = 10, TOP = 14, BOTTOM = 20;

/** Of a chart that is narrower there is no place for as many times. */
const NARROW = 480;

/** A measurement is joined to the one before if it is no further away than this, in milliseconds. */
const GAP = 3000;

export function timeOfDay(at) {
  return new Date(at).toLocaleTimeString([], { hour12: false });
}

/** Draws `points` and `events` up to `now` on `canvas`, `span` seconds of them. */
export function drawChart(canvas, { points, events, now, span, threshold, chosen }) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, "Noto Sans", "DejaVu Sans", sans-serif';
  const from = now - span * 1000;
  const x = at => LEFT + (at - from) / (now - from) * (width - LEFT - RIGHT);
  const y = score => TOP + (1 - score) * (height - TOP - BOTTOM);
  drawGrid(context, { x, y, from, now, span, width });
  for (const event of events) drawEvent(context, event, { x, y, now, from, chosen });
  drawScores(context, points.filter(point => point.at >= from - GAP), { x, y });
  if (threshold !== undefined) drawThreshold(context, y(threshold), width);
}

function drawGrid(context, { x, y, from, now, span, width }) {
  context.lineWidth = 1;
  context.strokeStyle = COLOURS.line;
  context.fillStyle = COLOURS.soft;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (const score of [0, 0.5, 1]) {
    line(context, [[LEFT, y(score)], [width - RIGHT, y(score)]]);
    context.fillText(score.toFixed(1), LEFT - 6, y(score));
  }
  const step = span * 1000 / (width < NARROW ? 3 : 6);
  context.textAlign = 'center';
  context.textBaseline = 'top';
  for (let at = Math.ceil(from / step) * step; at < now; at += step) {
    line(context, [[x(at), y(0)], [x(at), y(0) + 4]]);
    if (x(at) > LEFT + 20 && x(at) < width - 40) context.fillText(timeOfDay(at), x(at), y(0) + 6);
  }
}

function drawEvent(context, event, { x, y, now, from, chosen }) {
  const end = event.end ?? now;
  if (end < from) return;
  const left = Math.max(x(event.begin), LEFT), right = Math.max(x(end), left + 3);
  const is_chosen = event.id === chosen;
  context.fillStyle = is_chosen ? COLOURS.chosen : COLOURS.band;
  context.fillRect(left, y(1), right - left, y(0) - y(1));
  if (is_chosen) {
    context.strokeStyle = COLOURS.score;
    context.lineWidth = 2;
    context.strokeRect(left, y(1), right - left, y(0) - y(1));
  }
  if (event.peak_at >= from) {
    const peak = x(event.peak_at);
    context.fillStyle = COLOURS.alarm;
    context.beginPath();
    context.moveTo(peak - 6, 2);
    context.lineTo(peak + 6, 2);
    context.lineTo(peak, 12);
    context.fill();
  }
}

function drawScores(context, points, { x, y }) {
  const style = point => point.quality ? 'held' : point.anomalous ? 'alarm' : 'score';
  for (let i = 1; i < points.length; i++) {
    const [before, point] = [points[i - 1], points[i]];
    if (point.at - before.at > GAP || x(point.at) < LEFT) continue;
    const kind = style(point);
    context.strokeStyle = { held: COLOURS.soft, alarm: COLOURS.alarm, score: COLOURS.score }[kind];
    context.lineWidth = kind === 'alarm' ? 4 : 2;
    context.setLineDash(kind === 'held' ? [2, 4] : []);
    line(context, [[Math.max(x(before.at), LEFT), y(before.score)], [x(point.at), y(point.score)]]);
  }
  context.setLineDash([]);
  const last = points.at(-1);
  if (!last) return;
  context.fillStyle = last.anomalous ? COLOURS.alarm : COLOURS.score;
  context.beginPath();
  context.arc(x(last.at), y(last.score), 3.5, 0, 2 * Math.PI);
  context.fill();
}

function drawThreshold(context, at, width) {
  context.strokeStyle = COLOURS.ink;
  context.lineWidth = 1.5;
  context.setLineDash([7, 5]);
  line(context, [[LEFT, at], [width - RIGHT, at]]);
  context.setLineDash([]);
}

function line(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}
