// The DOM: rows, cards, notices. Contains no WebRTC; methods show a state, and the callbacks in `on` report clicks.
//
// Elements for tests and scripts are listed in docs/page.md.

const STATES = {
  available: { text: "Available", action: "call", label: "Call" },
  ringing: { text: "Calling you…" },
  calling: { text: "Calling…", action: "cancel", label: "Cancel" },
  incoming: { text: "Answering…", action: "cancel", label: "Cancel" },
  connected: { text: "Connected", action: "hang-up", label: "Hang up" },
  silent: { text: "Reconnecting…", action: "hang-up", label: "Hang up" },
};

const ANSWERING = {
  true: "Incoming calls are answered automatically.",
  false: "Incoming calls ring.",
};

const SERVER_STATES = {
  connecting: "Connecting",
  online: "Online",
  offline: "Offline, trying again",
  refused: "Not joined",
};

// Time for which a button ignores clicks after its meaning has changed, or after it has appeared, in ms. A click that
// was meant for what was there before must not start, end or answer a call.
const CLICK_GUARD = 300;

const LOG_LINES = 3;
const LOG_SECONDS = 6;

const $ = (selector, root = document) => root.querySelector(selector);

export class View {
  // on: { call(peer), hangUp(peer), answer(peer), decline(peer), enable(kind, enabled), answerAutomatically(automatic),
  //       noticeAction(), rename({ id, room, token }) }
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
    $("#open-settings").onclick = () => dialog.showModal();
    $("button[value=cancel]", dialog).onclick = () => dialog.close();
    $("form", dialog).onsubmit = (event) => {
      event.preventDefault();
      on.rename(Object.fromEntries(new FormData(event.target)));
    };
    $("#answer-automatically").onchange = ({ target }) => {
      on.answerAutomatically(target.checked);
      this.answerAutomatically(target.checked);
    };
    // Not pointerdown: from a finger, browsers do not count it as a user activation.
    document.addEventListener("click", () => this.#unmuteAll(), { capture: true });
    document.addEventListener("keydown", () => this.#unmuteAll(), { capture: true });
  }

  me({ id, room }) {
    $("#my-id").textContent = id;
    $("#my-room").textContent = room && ` in ${room}`;
    $("#settings [name=id]").value = id;
    $("#settings [name=room]").value = room;
    showAvatar($("#me .avatar"), id);
    this.title = `${id} · Peers`;
    document.title = this.title;
  }

  answerAutomatically(automatic) {
    $("#answer-automatically").checked = automatic;
    $("#answering").textContent = ANSWERING[automatic];
  }

  // Open the dialog for id, room and token, at the token.
  openSettings() {
    $("#settings").showModal();
    $("#settings [name=token]").focus();
  }

  // state: "connecting" · "online" · "offline" · "refused"
  server(state) {
    $("#server").dataset.state = state;
    $("#server-text").textContent = SERVER_STATES[state];
    for (const button of document.querySelectorAll("[data-action=call]")) button.disabled = state !== "online";
  }

  // Show a sentence, or none (null). `action`: label of a button, or null.
  notice(text, action = null) {
    $("#notice").hidden = !text;
    $("#notice-text").textContent = text ?? "";
    $("#notice-action").hidden = !action;
    $("#notice-action").textContent = action ?? "";
  }

  media(stream, { audio, video }) {
    const preview = $("#me video");
    const shown = audio || video ? stream : null; // an empty stream delays the page's load event
    if (preview.srcObject !== shown) preview.srcObject = shown;
    $("#mic").disabled = !audio;
    $("#camera").disabled = !video;
    $("#me").dataset.video = video && $("#camera").getAttribute("aria-pressed") === "true" ? "on" : "off";
  }

  // rows: [{ peer, state }], in order. The row of a peer remains the same element, so that it keeps the focus.
  peers(rows) {
    const body = $("#peers");
    const old = new Map([...body.children].map((row) => [row.dataset.peer, row]));
    const current = rows.map(({ peer, state }) => this.#row(old.get(peer) ?? this.#newRow(peer), state));
    for (const row of old.values()) if (!current.includes(row)) row.remove();
    current.forEach((row, index) => {
      const there = body.children[index] ?? null;
      if (there !== row) body.insertBefore(row, there);
    });
    $("#count").textContent = rows.length;
    $("#room-empty").hidden = rows.length > 0;
    this.#showRinging(rows.filter(({ state }) => state === "ringing").map(({ peer }) => peer));
  }

  // The card of a call with its video; removed if `stream` is null. `trouble`: a text over the video, or "".
  card(peer, state, stream, trouble) {
    let card = this.#card(peer);
    if (!stream) {
      card?.remove();
    } else {
      card ??= this.#newCard(peer);
      card.dataset.state = state;
      $(".trouble", card).textContent = state === "silent" ? "Reconnecting…" : trouble;
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

  // Statistics of a call, on its card.
  facts(peer, { width, height, fps, rttMs }) {
    const card = this.#card(peer);
    if (!card) return;
    $(".picture", card).textContent = width ? `${width}×${height} · ${fps} fps` : "Audio only";
    $(".more", card).textContent = rttMs === null ? "" : ` · ${rttMs} ms`;
    card.dataset.video = width ? "on" : "off";
  }

  // Show a sentence about an event for a few seconds.
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
    $(".name", row).title = peer;
    showAvatar($(".avatar", row), peer);
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
    if (row.dataset.state && (action === "call") !== (button.dataset.action === "call")) guard(button);
    row.dataset.state = state;
    $(".state", row).textContent = text;
    button.hidden = !action; // a call that rings has its buttons in #ringing
    if (!action) {
      delete button.dataset.action; // so that it is guarded when it reappears
      return row;
    }
    button.textContent = label;
    button.dataset.action = action;
    button.setAttribute("aria-label", `${label} ${row.dataset.peer}`);
    button.disabled = action === "call" && $("#server").dataset.state !== "online";
    return row;
  }

  // One line per caller, above everything else: on a phone, the list of peers may be out of sight.
  #showRinging(callers) {
    const list = $("#ringing");
    for (const line of [...list.children]) {
      if (callers.includes(line.dataset.peer)) continue;
      const focused = line.contains(document.activeElement);
      line.remove();
      if (focused) $(`#peers tr[data-peer="${CSS.escape(line.dataset.peer)}"] button`)?.focus();
    }
    const shown = [...list.children].map((line) => line.dataset.peer);
    for (const peer of callers) if (!shown.includes(peer)) list.append(this.#newRinging(peer));
    document.title = callers.length ? `${callers[0]} is calling` : this.title;
  }

  #newRinging(peer) {
    const line = $("#ringing-line").content.firstElementChild.cloneNode(true);
    line.dataset.peer = peer;
    $(".name", line).textContent = peer;
    showAvatar($(".avatar", line), peer);
    for (const button of line.querySelectorAll("button")) {
      const { action } = button.dataset;
      button.setAttribute("aria-label", `${button.textContent} ${peer}`);
      button.onclick = () => button.ariaDisabled === "true" || this.on[action](peer);
      guard(button);
    }
    return line;
  }

  #card(peer) {
    return $(`#stage .card[data-peer="${CSS.escape(peer)}"]`);
  }

  #newCard(peer) {
    const card = $("#card").content.firstElementChild.cloneNode(true);
    card.dataset.peer = peer;
    card.dataset.video = "off";
    $(".name", card).textContent = peer;
    $(".name", card).title = peer;
    $(".hang-up .visually-hidden", card).textContent = `Hang up ${peer}`;
    showAvatar($(".avatar", card), peer);
    const video = $("video", card);
    video.setAttribute("aria-label", `Video of ${peer}`);
    video.onresize = () => (card.dataset.video = video.videoWidth ? "on" : "off");
    $(".hang-up", card).onclick = () => this.on.hangUp(peer);
    const full = $(".full", card);
    full.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : card.requestFullscreen());
    full.hidden = !card.requestFullscreen; // not available on iPhones
    $("#stage").append(card);
    return card;
  }

  // Browsers may block sound until the user has touched the page. Then the video plays muted, with a button for sound.
  async #play(card, video) {
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return; // the call ended first
      console.info("the browser blocks sound until the user touches the page");
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

// Not `disabled`, which would remove the focus.
function guard(button) {
  button.ariaDisabled = "true";
  setTimeout(() => (button.ariaDisabled = null), CLICK_GUARD);
}

// Initial and color of an id. All peers see the same, so that people can refer to "the green one".
function showAvatar(avatar, id) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) % 360;
  avatar.textContent = id[0].toUpperCase();
  avatar.style.setProperty("--hue", hash);
}
