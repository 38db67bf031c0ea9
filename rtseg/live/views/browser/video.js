// The picture as a video: MP4 fragments from a WebSocket, through Media Source Extensions, at the live edge.

const BEHIND_S = 0.3; // more than this, and it jumps to the newest picture
const AIM_S = 0.05; // it plays about so far behind the newest: what comes a little late still comes in time
const HASTE = 0.1; // by so much it plays faster or slower to get there
const KEEP_S = 10; // of what was played
const BLACK_MS = 5000, BLACK_COUNT = 50; // time in which so many pictures come and none is seen
const NO_VIDEO = 4000; // the code with which the server says that there can be none

const mediaType = (codec) => `video/mp4; codecs="${codec}"`;

/**
 * Plays in `video` until the connection or `signal` ends; the promise is rejected with the reason where it cannot.
 * `shown({ frame, captured_at })` is called for each picture that is seen, `received` for what comes, with its bytes.
 */
export function playVideo(video, signal, shown, received) {
  return new Promise((resolve, reject) => {
    if (!("MediaSource" in window && "requestVideoFrameCallback" in video)) throw new Error("this browser plays none");
    const socket = new WebSocket(new URL("video", location.href.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    const player = new Player(video, shown, (number) => socket.send(number));
    let over = false;
    const end = (error) => {
      if (over) return; // the element may be another player's by now
      over = true;
      signal.removeEventListener("abort", stop);
      video.onerror = socket.onmessage = socket.onclose = null;
      socket.close();
      player.close();
      if (error) reject(error);
      else resolve();
    };
    const stop = () => end();
    const attempt = (work) => {
      try {
        work();
      } catch (error) {
        end(error);
      }
    };
    signal.addEventListener("abort", stop);
    video.onerror = () => end(new Error(video.error.message || "this browser cannot decode it"));
    player.onready = () => attempt(() => player.work());
    socket.onmessage = ({ data }) => {
      received(data.byteLength ?? data.length);
      attempt(() => player.take(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (code === NO_VIDEO) end(new Error(reason));
      else end(player.started ? null : new Error("no connection for it"));
    };
    video.play().catch((error) => { if (error.name !== "AbortError") end(error); });
  });
}

/** Feeds a video element: one message at a time, since a buffer takes one. */
class Player {
  onready = () => {};
  started = false;
  #video; #shown; #answer;
  #source = new MediaSource();
  #buffer = null;
  #type = "";
  #waiting = [];
  #pictures = []; // that came and were not seen yet
  #edge = 0;
  #callback = 0;

  constructor(video, shown, answer) {
    [this.#video, this.#shown, this.#answer] = [video, shown, answer];
    this.#source.onsourceopen = () => this.onready();
    video.src = URL.createObjectURL(this.#source);
    this.#watch();
  }

  close() {
    this.#video.cancelVideoFrameCallback(this.#callback);
    URL.revokeObjectURL(this.#video.src);
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  take(message) {
    this.#waiting.push(message);
    this.work();
  }

  work() {
    while (this.#source.readyState === "open" && !this.#buffer?.updating) {
      const message = this.#waiting.shift();
      if (message === undefined) return this.#forget();
      if (message instanceof ArrayBuffer) this.#buffer.appendBuffer(message);
      else this.#told(JSON.parse(message));
    }
  }

  #told(about) {
    if ("codec" in about) return this.#begin(mediaType(about.codec));
    this.#answer(about.number);
    this.#edge = about.time;
    this.#pictures.push({ ...about, cameAt: performance.now() });
    const unseen = this.#pictures.length;
    if (unseen > BLACK_COUNT && performance.now() - this.#pictures[0].cameAt > BLACK_MS) {
      throw new Error("this browser does not show it");
    }
    this.#keepUp();
  }

  #begin(type) {
    if (!MediaSource.isTypeSupported(type)) throw new Error(`this browser does not play ${type}`);
    if (this.#buffer === null) {
      this.#buffer = this.#source.addSourceBuffer(type);
      this.#buffer.onupdateend = () => this.onready();
    } else if (type !== this.#type) {
      this.#buffer.changeType(type);
    }
    this.#type = type;
  }

  #keepUp() {
    const video = this.#video;
    const behind = this.#edge - video.currentTime;
    if (!this.started || behind > BEHIND_S) video.currentTime = this.#edge;
    video.playbackRate = 1 + HASTE * ((behind > 1.5 * AIM_S) - (behind < 0.5 * AIM_S));
    this.started = true;
  }

  /** Throws away what was played long ago; each head of it begins with a key frame. */
  #forget() {
    const { buffered, currentTime } = this.#video;
    if (buffered.length && buffered.start(0) < currentTime - 2 * KEEP_S) this.#buffer.remove(0, currentTime - KEEP_S);
  }

  #watch() {
    this.#callback = this.#video.requestVideoFrameCallback((_, { mediaTime }) => {
      const later = this.#pictures.findIndex(({ time }) => time > mediaTime + 0.0005);
      const seen = this.#pictures.splice(0, later < 0 ? this.#pictures.length : later);
      if (seen.length) this.#shown(seen.at(-1));
      this.#watch();
    });
  }
}
