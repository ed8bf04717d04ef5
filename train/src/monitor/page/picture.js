// The live picture: by WebRTC where it is to be had, else as MJPEG. Which one shows is in the body's data-picture.

/** Milliseconds that a picture by WebRTC may take to come, or to go on while the monitor has newer ones. */
const PATIENCE = 6000;
/** Milliseconds between two looks at whether it goes on. */
const LOOK = 1000;
/** Milliseconds that the browser may take to find its own addresses. */
const GATHERING = 500;
/** Milliseconds until a picture that failed is asked for again. */
const RETRY = 2000;

const video = document.getElementById('video'), image = document.getElementById('picture');

/** One attempt after the other; what belongs to another than this is over. */
let turn = 0;
/** Whom to ask whether a picture is wanted, when the newest one came and what time it is there, and whom to tell that all seats are taken. */
let monitor;
let peer, id, looking, frames, countedAt, missingSince, before, words = '–';

export function connectPicture(hooks) {
  monitor = hooks;
}

/** What is known of the picture that shows. */
export function aboutPicture() {
  return words;
}

/** Shows the picture, `way` being what the monitor has: auto, webrtc or mjpeg. */
export function openPicture(way) {
  closePicture();
  if (way === 'mjpeg') return openImage('MJPEG');
  const own = turn, failed = problem => fall(own, way, problem);
  frames = 0;
  countedAt = 0;
  before = missingSince = undefined;
  looking = setInterval(() => look(own).catch(failed), LOOK);
  openVideo(own, failed).catch(failed);
}

/** Shows none, and gives up the place. */
export function closePicture() {
  turn++;
  clearInterval(looking);
  if (peer) peer.close();
  if (id) fetch(`/api/webrtc/${id}`, { method: 'DELETE', keepalive: true }).catch(() => {});
  peer = id = undefined;
  video.srcObject = null;
  image.removeAttribute('src');
  show('none', '–');
}

function show(which, about) {
  document.body.dataset.picture = which;
  words = about;
}

// ---- WebRTC

async function openVideo(own, failed) {
  if (!window.RTCPeerConnection) throw new Error('this browser has none');
  const answer = await fetch('/api/webrtc', { method: 'POST' });
  monitor.full(answer.status === 503);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const offer = await answer.json();
  if (own !== turn) return void fetch(`/api/webrtc/${offer.id}`, { method: 'DELETE' }).catch(() => {});
  id = offer.id;
  const mine = peer = new RTCPeerConnection();
  mine.ontrack = ({ track, receiver }) => {
    receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([track]);
  };
  mine.onconnectionstatechange = () => {
    if (['failed', 'closed'].includes(mine.connectionState)) failed(new Error('the connection is lost'));
  };
  await mine.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
  await mine.setLocalDescription();
  await gathered(mine);
  if (own !== turn) return;
  const sent = await fetch(`/api/webrtc/${offer.id}/answer`, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: mine.localDescription.sdp });
  if (!sent.ok) throw new Error((await sent.text()).trim());
  video.onplaying = () => { if (own === turn && document.body.dataset.picture === 'none') show('webrtc', 'WebRTC'); };
}

function gathered(mine) {
  return new Promise(done => {
    const isDone = () => { if (mine.iceGatheringState === 'complete') done(); };
    mine.onicegatheringstatechange = isDone;
    setTimeout(done, GATHERING);
    isDone();
  });
}

async function look(own) {
  if (peer) await count(own);
  // Also a step that never ends is over when it has taken too long.
  if (own === turn && isBehind()) throw new Error('no frame comes');
}

async function count(own) {
  const report = [...(await peer.getStats()).values()];
  if (own !== turn) return;
  const inbound = report.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
  if (!(inbound?.framesDecoded > frames)) return;
  frames = inbound.framesDecoded;
  countedAt = monitor.now();
  show('webrtc', describe(report, inbound));
}

/** Whether the monitor has had newer pictures for too long. Where its source stands still there are none. */
function isBehind() {
  if (!(monitor.newest() > countedAt)) missingSince = undefined;
  else missingSince ??= performance.now();
  return performance.now() - missingSince > PATIENCE;
}

/** The latency that the browser knows of: how long it holds and decodes a frame, and how long a packet takes there and back. */
function describe(report, inbound) {
  const pair = report.find(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded');
  const codec = report.find(({ id }) => id === inbound.codecId)?.mimeType?.replace('video/', '');
  const parts = [['WebRTC', codec, inbound.frameWidth && `${inbound.frameWidth} × ${inbound.frameHeight}`].filter(Boolean).join(', ')];
  const waited = before && inbound.jitterBufferEmittedCount - before.jitterBufferEmittedCount;
  const decoded = before && inbound.framesDecoded - before.framesDecoded;
  if (waited && decoded) {
    const seconds = (inbound.jitterBufferDelay - before.jitterBufferDelay) / waited + (inbound.totalDecodeTime - before.totalDecodeTime) / decoded;
    parts.push(`${(seconds * 1000).toFixed(0)} ms in the browser`);
  }
  if (pair?.currentRoundTripTime !== undefined) parts.push(`${(pair.currentRoundTripTime * 1000).toFixed(0)} ms there and back`);
  before = inbound;
  return parts.join('; ');
}

/** WebRTC has failed. */
function fall(own, way, problem) {
  if (own !== turn) return;
  closePicture();
  if (!monitor.isWanted()) return;
  if (way === 'auto' && !monitor.isFull()) return openImage(`MJPEG, since by WebRTC ${problem.message}`);
  show('none', `none, since by WebRTC ${problem.message}`);
  retry(way);
}

function retry(way) {
  const own = turn;
  setTimeout(() => { if (own === turn && monitor.isWanted()) openPicture(way); }, RETRY);
}

// ---- MJPEG

function openImage(about) {
  const own = turn;
  show('mjpeg', about);
  image.onerror = async () => {
    if (own !== turn || !monitor.isWanted()) return;
    const aborter = new AbortController();
    const answer = await fetch('/live.mjpeg', { signal: aborter.signal }).catch(() => undefined);
    monitor.full(answer?.status === 503);
    aborter.abort();
    setTimeout(() => { if (own === turn && monitor.isWanted()) image.src = `/live.mjpeg?${own}-${performance.now()}`; }, RETRY);
  };
  image.src = `/live.mjpeg?${own}-${performance.now()}`;
}

addEventListener('pagehide', closePicture);
// A page that was kept for going back to it is shown again.
addEventListener('pageshow', event => { if (event.persisted) location.reload(); });
