// What is seen: rows, cards, notices. It knows nothing of WebRTC; it is told, and tells back what was clicked.
//
// Hooks for tests and scripts: #my-id, #server[data-state], #notice, #peers tr[data-peer][data-state] with one
// button[data-action], #stage .card[data-peer][data-state] with its video and .facts.

const STATES = {
  available: { text: "Available", action: "call", label: "Call" },
  calling: { text: "Calling…", action: "cancel", label: "Cancel" },
  incoming: { text: "Answering…", action: "cancel", label: "Cancel" },
  connected: { text: "Connected", action: "hang-up", label: "Hang Up" },
  silent: { text: "Reconnecting…", action: "hang-up", label: "Hang Up" },
};

const SERVER_STATES = {
  connecting: "Connecting",
  online: "Online",
  offline: "Offline, trying again",
  refused: "Not joined",
};

// A button that starts a call must not become one that ends it under a finger on its way down, nor the other way.
const SETTLE = 300; // ms

const LOG_LINES = 3;
const LOG_SECONDS = 6;

const $ = (selector, root = document) => root.querySelector(selector);

export class View {
  // on: { call(peer), hangUp(peer), enable(kind, enabled), noticeAction(), rename({ id, room }) }
  constructor(on) {
    this.on = on;
    for (const [id, kind] of [["mic", "audio"], ["camera", "video"]]) {
      const button = $(`#${id}`);
      button.onclick = () => {
        const enabled = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(enabled));
        if (kind === "video") $("#me").dataset.video = enabled ? "on" : "off";
        on.enable(kind, enabled);
      };
    }
    $("#notice-action").onclick = () => on.noticeAction();
    const dialog = $("#settings");
    $("#who").onclick = () => dialog.showModal();
    $("button[value=cancel]", dialog).onclick = () => dialog.close();
    $("form", dialog).onsubmit = (event) => {
      event.preventDefault();
      on.rename(Object.fromEntries(new FormData(event.target)));
    };
    // Not pointerdown: with a finger that does not count as a touch yet.
    document.addEventListener("click", () => this.#unmuteAll(), { capture: true });
    document.addEventListener("keydown", () => this.#unmuteAll(), { capture: true });
  }

  me({ id, room }) {
    $("#my-id").textContent = id;
    $("#my-room").textContent = room && ` in ${room}`;
    $("#settings [name=id]").value = id;
    $("#settings [name=room]").value = room;
    dress($("#me .avatar"), id);
    document.title = `${id} · Peers`;
  }

  // Who and where, and by which token.
  askSettings() {
    $("#settings").showModal();
    $("#settings [name=token]").focus();
  }

  // state: connecting, online, offline, refused
  server(state) {
    $("#server").dataset.state = state;
    $("#server-text").textContent = SERVER_STATES[state];
    for (const button of document.querySelectorAll("[data-action=call]")) button.disabled = state !== "online";
  }

  // One line, or null; with the label of a button, if there is something to do about it.
  notice(text, action = null) {
    $("#notice").hidden = !text;
    $("#notice-text").textContent = text ?? "";
    $("#notice-action").hidden = !action;
    $("#notice-action").textContent = action ?? "";
  }

  media(stream, { audio, video }) {
    const preview = $("#me video");
    const shown = audio || video ? stream : null; // an empty stream holds the page's load event back
    if (preview.srcObject !== shown) preview.srcObject = shown;
    $("#mic").disabled = !audio;
    $("#camera").disabled = !video;
    $("#me").dataset.video = video && $("#camera").getAttribute("aria-pressed") === "true" ? "on" : "off";
  }

  // rows: [{ peer, state }], in order. A row stays the same element, so that the focus stays where it was.
  peers(rows) {
    const body = $("#peers");
    const old = new Map([...body.children].map((row) => [row.dataset.peer, row]));
    const fresh = rows.map(({ peer, state }) => this.#row(old.get(peer) ?? this.#newRow(peer), state));
    for (const row of old.values()) if (!fresh.includes(row)) row.remove();
    fresh.forEach((row, index) => {
      const there = body.children[index] ?? null;
      if (there !== row) body.insertBefore(row, there);
    });
    $("#count").textContent = rows.length;
    $("#room-empty").hidden = rows.length > 0;
  }

  // The picture and sound of a connected peer; without a stream there is none.
  card(peer, state, stream) {
    let card = this.#card(peer);
    if (!stream) {
      card?.remove();
    } else {
      card ??= this.#newCard(peer);
      card.dataset.state = state;
      const video = $("video", card);
      if (video.srcObject !== stream) {
        video.srcObject = stream;
        this.#play(card, video);
      }
    }
    const cards = $("#stage").querySelectorAll(".card").length;
    $("#stage-empty").hidden = cards > 0;
    document.body.dataset.calls = cards;
  }

  facts(peer, { width, height, fps, rttMs }) {
    const card = this.#card(peer);
    if (!card) return;
    $(".picture", card).textContent = width ? `${width}×${height} · ${fps} fps` : "sound only";
    $(".more", card).textContent = rttMs === null ? "" : ` · ${rttMs} ms`;
    card.dataset.video = width ? "on" : "off";
  }

  // Something happened that deserves a sentence.
  log(text) {
    const line = document.createElement("p");
    line.textContent = text;
    $("#log").append(line);
    while ($("#log").children.length > LOG_LINES) $("#log").firstElementChild.remove();
    setTimeout(() => line.remove(), LOG_SECONDS * 1000);
  }

  #newRow(peer) {
    const row = $("#row").content.firstElementChild.cloneNode(true);
    row.dataset.peer = peer;
    $(".name", row).textContent = peer;
    dress($(".avatar", row), peer);
    const button = $("button", row);
    button.onclick = () => {
      if (button.ariaDisabled === "true") return;
      if (button.dataset.action === "call") this.on.call(peer);
      else this.on.hangUp(peer);
    };
    return row;
  }

  #row(row, state) {
    if (row.dataset.state === state) return row;
    const { text, action, label } = STATES[state];
    const button = $("button", row);
    if (row.dataset.state && (action === "call") !== (button.dataset.action === "call")) settle(button);
    row.dataset.state = state;
    $(".state", row).textContent = text;
    button.textContent = label;
    button.dataset.action = action;
    button.setAttribute("aria-label", `${label} ${row.dataset.peer}`);
    button.disabled = action === "call" && $("#server").dataset.state !== "online";
    return row;
  }

  #card(peer) {
    return $(`#stage .card[data-peer="${CSS.escape(peer)}"]`);
  }

  #newCard(peer) {
    const card = $("#card").content.firstElementChild.cloneNode(true);
    card.dataset.peer = peer;
    card.dataset.video = "off";
    $(".name", card).textContent = peer;
    $(".hang-up .visually-hidden", card).textContent = `Hang up ${peer}`;
    dress($(".avatar", card), peer);
    const video = $("video", card);
    video.setAttribute("aria-label", `Video of ${peer}`);
    video.onresize = () => (card.dataset.video = video.videoWidth ? "on" : "off");
    $(".hang-up", card).onclick = () => this.on.hangUp(peer);
    const full = $(".full", card);
    full.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : card.requestFullscreen());
    full.hidden = !card.requestFullscreen; // iPhones
    $("#stage").append(card);
    return card;
  }

  // A browser may refuse sound until somebody has touched the page: then the picture runs, and a button says so.
  async #play(card, video) {
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return; // the call ended first
      console.info("sound is held back until the page is touched");
      video.muted = true;
      $(".unmute", card).hidden = false;
      await video.play().catch(() => {});
    }
  }

  #unmuteAll() {
    for (const button of document.querySelectorAll(".unmute:not([hidden])")) {
      const card = button.parentElement;
      const video = $("video", card);
      button.hidden = true;
      video.muted = false;
      this.#play(card, video);
    }
  }
}

// Not `disabled`: that would take the focus away.
function settle(button) {
  button.ariaDisabled = "true";
  setTimeout(() => (button.ariaDisabled = null), SETTLE);
}

// Initial and colour of an id: the same for everybody, so that people can say "the green one".
function dress(avatar, id) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) % 360;
  avatar.textContent = id[0].toUpperCase();
  avatar.style.setProperty("--hue", hash);
}
