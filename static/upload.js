"use strict";

/* Sending files: one request per photo, one per piece of an archive, so that each has its own progress, its own receipt
   and its own retry. Sending anything twice is safe: the server knows files by their content. */

class ConnectionLost extends Error {}
class Halted extends Error {}
class LoggedOut extends Error {}

/* `item` is the file that this is about: whoever halts it aborts the request. What the server has taken by then it has,
   and says so when the file is sent once more. */
function post(item, url, fields, onProgress) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields))
    if (value instanceof Blob) body.append(name, value, value.name ?? name);
    else body.append(name, value);
  return new Promise((resolve, reject) => {
    if (item.isHalted) return reject(new Halted());
    const xhr = new XMLHttpRequest();
    item.xhr = xhr;
    xhr.open("POST", url);
    xhr.timeout = 10 * 60 * 1000;
    xhr.setRequestHeader("HX-Request", "true");
    xhr.setRequestHeader("X-CSRFToken", sendingForm.elements.csrfmiddlewaretoken.value);
    if (onProgress) xhr.upload.onprogress = onProgress;
    xhr.onload = () => resolve(xhr);
    xhr.onerror = xhr.ontimeout = () => reject(new ConnectionLost());
    xhr.onabort = () => reject(new Halted());
    xhr.send(body);
  });
}

async function sha256(file) {
  // Browsers hash only on pages that came by HTTPS or from this machine; elsewhere the server finds out by itself.
  if (!globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const isArchive = (file) => /\.zip$/i.test(file.name) || file.type === "application/zip";
const isHidden = (name) => name.startsWith(".") || /^(thumbs\.db|desktop\.ini)$/i.test(name);

async function filesBelow(entry) {
  if (isHidden(entry.name) || entry.name === "__MACOSX") return [];
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return files;
    for (const child of some) files.push(...(await filesBelow(child)));
  }
}

function setUpSending(form) {
  const AT_ONCE = 3;
  const LOSSES = 5;
  const list = document.getElementById("receipts");
  const blankRow = document.getElementById("upload-row").content.firstElementChild;
  const panel = document.getElementById("batch");
  const panelText = panel.querySelector(".batch-text");
  const panelBar = panel.querySelector("progress");
  const filters = document.getElementById("receipt-filters");
  const table = panel.querySelector("[data-receipts]");
  const groups = panel.querySelector("[data-groups]");
  const buttons = Object.fromEntries([...panel.querySelectorAll("[data-do]")].map((b) => [b.dataset.do, b]));
  const words = panel.dataset;
  const login = document.getElementById("login");
  let items = [];
  let paused = false;
  let offline = false;
  let barred = false; // nothing is sent while the page learns whether the person is still logged in
  let signedOut = false;
  let probeAfter = 0;
  let lastSaid = 0;

  const having = (state) => items.filter((item) => item.state === state);
  const isBusy = () => items.some((item) => item.state === "waiting" || item.state === "sending");
  const isUnfinished = () => isBusy() || items.some((item) => item.state === "held" || item.canRetry);

  /* What people see. */

  function show() {
    const done = having("done").length;
    const held = having("held").length;
    const failed = having("failed").length;
    let text = fill(words.count, { done, total: items.length });
    if (failed) text += " · " + fill(words.failed, { failed });
    if (held) text += " · " + fill(words.held, { held });
    if (paused && isBusy()) text += " · " + words.paused;
    else if (offline) text += " · " + words.offline;
    else if (signedOut) text += " · " + document.body.dataset.signedOut;
    panelText.textContent = text;
    const underWay = items.filter((item) => item.state !== "failed");
    panelBar.max = underWay.reduce((sum, item) => sum + item.file.size, 0) || 1;
    panelBar.value = underWay.reduce((sum, item) => sum + item.loaded, 0);
    buttons.retry.hidden = !offline && !items.some((item) => item.canRetry);
    buttons.login.hidden = !signedOut;
    buttons.pause.hidden = paused || !isBusy();
    buttons.resume.hidden = isBusy() ? !paused : !held;
    groups.hidden = isBusy() || list.querySelectorAll(".receipt.accepted").length < 2;
    panel.hidden = false;
    panel.classList.toggle("finished", !isUnfinished());
    if (!isBusy() || Date.now() - lastSaid > 5000) {
      lastSaid = Date.now();
      say(text);
    }
  }

  function countReceipts() {
    const selectors = { "": "", accepted: ".accepted", known: ".known", similar: ":has(.twin)", refused: ".refused" };
    for (const button of filters.querySelectorAll("[data-show]")) {
      const count = list.querySelectorAll(".receipt" + selectors[button.dataset.show]).length;
      button.querySelector("span").textContent = count;
      button.hidden = Boolean(button.dataset.show) && count === 0;
    }
    filters.hidden = list.children.length < 2;
  }

  filters.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-show]");
    if (!chosen) return;
    for (const button of filters.querySelectorAll("[data-show]"))
      button.setAttribute("aria-pressed", String(button === chosen));
    list.dataset.show = chosen.dataset.show;
  });
  document.body.addEventListener("answered", countReceipts);

  function note(item, text) {
    item.row.querySelector(".receipt-note").textContent = text;
  }

  function offer(item, ...offered) {
    const buttons = [...item.row.querySelectorAll("[data-do]")];
    const focused = buttons.includes(document.activeElement);
    for (const button of buttons) button.hidden = !offered.includes(button.dataset.do);
    if (focused) buttons.find((button) => !button.hidden)?.focus();
  }

  function fail(item, text, { canRetry = false } = {}) {
    Object.assign(item, { state: "failed", loaded: 0, canRetry });
    note(item, text);
    item.row.classList.add("refused");
    item.row.querySelector("progress").hidden = true;
    offer(item, canRetry && "retry");
  }

  function wait(item, text) {
    Object.assign(item, { state: "waiting", canRetry: false, isHalted: false });
    note(item, text);
    item.row.classList.remove("refused");
    item.row.querySelector("progress").hidden = false;
    offer(item, "pause");
  }

  /* One file alone: the others go on, and this one waits until somebody wants it. */

  function hold(item) {
    Object.assign(item, { state: "held", loaded: 0 });
    note(item, words.paused);
    offer(item, "resume");
  }

  function halt(item) {
    item.isHalted = true;
    if (item.state === "sending") item.xhr?.abort();
    else hold(item);
    sendNext();
  }

  function retry(item) {
    item.losses = 0;
    wait(item, paused ? words.paused : words.waiting);
    sendNext();
  }

  function accept(item, receipts) {
    Object.assign(item, { state: "done", loaded: item.file.size });
    const picture = receipts[0].querySelector(".picture");
    const local = item.row.querySelector("img");
    // The preview may not be made yet: the picture that is already on the device fills the box meanwhile.
    if (local && !picture.querySelector("img")) picture.append(local);
    else URL.revokeObjectURL(item.url);
    item.row.replaceWith(...receipts);
    awaitAnswers();
  }

  /* Sending. */

  function progress(item, before = 0) {
    return (event) => {
      item.loaded = Math.min(before + event.loaded, item.file.size);
      item.row.querySelector("progress").value = item.loaded / (item.file.size || 1);
      if (event.loaded === event.total && !before) note(item, words.checking);
      show();
    };
  }

  function refuse(item, xhr, path) {
    const isStale = xhr.status === 403 && !item.isRenewed;
    item.isRenewed = isStale;
    if (isStale || xhr.status === 401 || wasSentElsewhere(xhr, path)) throw new LoggedOut();
    else if (xhr.status === 503 && xhr.getResponseHeader("Retry-After")) throw new ConnectionLost();
    else if (xhr.status === 413) fail(item, words.large);
    else if (xhr.status === 400) fail(item, JSON.parse(xhr.responseText).detail ?? words.server);
    else fail(item, words.server, { canRetry: true });
  }

  function takeReceipts(item, xhr, path) {
    const answer = document.createElement("template");
    answer.innerHTML = xhr.responseText;
    const receipts = [...answer.content.children].filter((child) => child.matches(".receipt"));
    if (wasSentElsewhere(xhr, path) || xhr.status !== 200 || !receipts.length) return refuse(item, xhr, path);
    const batch = xhr.getResponseHeader("X-Import");
    table.href = `${batch}receipts.csv`;
    table.hidden = false;
    groups.href = `${batch}suggestions/`;
    accept(item, receipts);
  }

  async function sendPhoto(item) {
    const fields = { batch: words.key, animal: form.elements.animal.value };
    const digest = await sha256(item.file);
    if (digest) {
      const known = await post(item, words.check, { ...fields, sha256: digest, name: item.file.name });
      if (known.status !== 204) return takeReceipts(item, known, words.check);
    }
    const answer = await post(item, words.upload, { ...fields, images: item.file }, progress(item));
    takeReceipts(item, answer, words.upload);
  }

  async function sendArchive(item) {
    const { name, size, lastModified } = item.file;
    let path = words.archives;
    let answer = await post(item, path, { name, size, stamp: lastModified });
    while ((answer.status === 200 || answer.status === 409) && !wasSentElsewhere(answer, path)) {
      const { received, part_bytes, part_count, parts_url, url } = JSON.parse(answer.responseText);
      item.loaded = Math.min(received * part_bytes, size);
      if (received === part_count) return arrived(item, url);
      if (paused) return wait(item, words.paused);
      const part = item.file.slice(received * part_bytes, (received + 1) * part_bytes);
      path = `${parts_url}${received}/`;
      answer = await post(item, path, { part }, progress(item, item.loaded));
      if (answer.status === 200) item.isRenewed = false; // a later token may be replaced too
    }
    refuse(item, answer, path);
  }

  function arrived(item, url) {
    Object.assign(item, { state: "done", loaded: item.file.size });
    note(item, words.received);
    item.row.classList.add("accepted");
    item.row.querySelector("progress").hidden = true;
    offer(item);
    const link = item.row.querySelector("[data-import]");
    link.href = url;
    link.hidden = false;
    follow(item, url);
  }

  /* What becomes of an archive that has arrived: the same figures as on the page of its import. */

  async function follow(item, url) {
    const fetchText = async () => (await fetch(`${url}progress/`)).text();
    let interval = 3000;
    for (let isMoving = true; isMoving; ) {
      await new Promise((resolve) => setTimeout(resolve, interval));
      const html = document.hidden ? "" : await fetchText().catch(() => "");
      const state = new DOMParser().parseFromString(html, "text/html").getElementById("import-progress");
      interval = state ? 3000 : Math.min(1.5 * interval, 30_000);
      if (!state) continue; // nobody looks, nobody is logged in, or the connection is lost
      const texts = [...state.querySelectorAll("h2, .notice, .batch-text")].map((place) => place.textContent.trim());
      note(item, texts.join(" · "));
      isMoving = state.hasAttribute("hx-get");
      item.row.classList.toggle("accepted", !state.querySelector(".error"));
      item.row.classList.toggle("refused", Boolean(state.querySelector(".error")));
      if (!isMoving) say(`${item.file.name}: ${texts[0]}`);
    }
    countReceipts();
  }

  async function send(item) {
    item.state = "sending";
    note(item, words.sending);
    try {
      await (isArchive(item.file) ? sendArchive(item) : sendPhoto(item));
      offline = false;
      probeAfter = 0;
    } catch (error) {
      item.loaded = 0;
      if (error instanceof Halted) hold(item);
      else if (error instanceof LoggedOut) {
        wait(item, paused ? words.paused : words.waiting);
        if (!barred) renew();
      } else if (!(error instanceof ConnectionLost) || ++item.losses >= LOSSES) fail(item, words.gone, { canRetry: true });
      else {
        wait(item, words.lost);
        goOffline();
      }
    }
    countReceipts();
    sendNext();
  }

  function sendNext() {
    if (!paused && !offline && !barred) {
      const free = AT_ONCE - having("sending").length;
      having("waiting").slice(0, free).forEach(send);
    }
    show();
  }

  /* A lost connection: ask more and more rarely whether the server is there, and go on when it is. */

  function goOffline() {
    if (offline) return;
    offline = true;
    probeAfter = Math.min(2 * probeAfter || 1000, 30_000);
    setTimeout(probe, probeAfter);
  }

  async function probe() {
    if (!offline) return;
    const isBack = await fetch("/healthz", { cache: "no-store" }).then((answer) => answer.ok, () => false);
    offline = false;
    if (isBack) sendNext();
    else goOffline();
  }

  /* The session has ended, or another tab has replaced the token: this page, fetched anew, tells which. It brings a
     fresh token, or the login form in its place; so does the answer to that form. */

  async function renew(loginForm) {
    barred = true;
    try {
      const answer = loginForm
        ? await fetch(loginForm.action, { method: "POST", body: new FormData(loginForm) })
        : await fetch(form.action, { cache: "no-store" });
      if (answer.status >= 500) throw new ConnectionLost();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector(`#${form.id} [name=csrfmiddlewaretoken]`);
      if (!fresh) return askToLogIn(page, answer.url, !loginForm);
      for (const field of document.getElementsByName("csrfmiddlewaretoken")) field.value = fresh.value;
      awaitAnswers();
    } catch {
      goOffline();
    }
    barred = signedOut = false;
    login.close();
    sendNext();
  }

  function askToLogIn(page, address, isFirst) {
    signedOut = true;
    show();
    if (login.open && isFirst) return; // somebody is typing in it
    const place = login.querySelector("[data-form]");
    const loginForm = page.querySelector("main form");
    if (loginForm) loginForm.action = address;
    place.replaceChildren(loginForm ?? page.querySelector("main p"));
    place.querySelector(".errorlist")?.setAttribute("role", "alert");
    if (!login.open) login.showModal();
    place.querySelector("input:invalid")?.focus();
  }

  // Somebody comes back from another tab, and may have logged in there.
  document.addEventListener("visibilitychange", () => {
    if (signedOut && !document.hidden) renew();
  });

  login.addEventListener("submit", (event) => {
    if (event.target.method === "dialog") return;
    event.preventDefault();
    renew(event.target);
  });

  /* What people do. */

  function addRow(item) {
    const { row, file } = item;
    const image = new Image();
    item.url = URL.createObjectURL(file);
    image.alt = "";
    image.decoding = "async";
    image.loading = "lazy"; // hundreds of photos: only those in sight are decoded
    // Most browsers cannot draw HEIC: the box then keeps its placeholder.
    image.onerror = () => image.remove();
    if (!isArchive(file)) {
      row.querySelector(".picture").append(image);
      image.src = item.url;
    }
    row.querySelector(".receipt-name").textContent = file.name;
    row.querySelector("progress").setAttribute("aria-label", file.name);
    for (const button of row.querySelectorAll("[data-do]")) {
      button.querySelector(".unseen").textContent = file.name;
      button.addEventListener("click", () => (button.dataset.do === "pause" ? halt(item) : retry(item)));
    }
    note(item, paused ? words.paused : words.waiting);
  }

  function add(files) {
    if (!files.length) return;
    if (!isBusy()) items = items.filter((item) => item.state !== "done");
    const rows = new DocumentFragment();
    for (const file of files) {
      const item = { file, row: blankRow.cloneNode(true), state: "waiting", loaded: 0, losses: 0, canRetry: false };
      addRow(item);
      if (file.size > Number(words.maxBytes) && !isArchive(file)) fail(item, words.large);
      items.push(item);
      rows.append(item.row);
    }
    list.prepend(rows);
    countReceipts();
    sendNext();
  }

  function pause(wish) {
    paused = wish;
    for (const item of having("waiting")) note(item, paused ? words.paused : words.waiting);
    (paused ? buttons.resume : buttons.pause).hidden = false;
    if (document.activeElement === (paused ? buttons.pause : buttons.resume))
      (paused ? buttons.resume : buttons.pause).focus();
    sendNext();
  }

  buttons.pause.addEventListener("click", () => pause(true));
  buttons.resume.addEventListener("click", () => {
    pause(false);
    having("held").forEach(retry);
  });
  buttons.retry.addEventListener("click", () => {
    items.filter((item) => item.canRetry).forEach(retry);
    probe();
  });
  buttons.login.addEventListener("click", () => renew());
  window.addEventListener("online", probe);
  window.addEventListener("beforeunload", (event) => {
    if (isUnfinished()) event.preventDefault();
  });

  function take(picker) {
    add([...picker.files]);
    picker.value = "";
  }
  form.addEventListener("change", (event) => take(event.target));
  form.addEventListener("submit", (event) => event.preventDefault());

  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files");
  function drag(change) {
    depth = Math.max(0, change === 0 ? 0 : depth + change);
    form.classList.toggle("dragging", depth > 0);
  }
  document.addEventListener("dragenter", (event) => holdsFiles(event) && drag(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && drag(-1));
  document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drag(0);
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const entries = dropped.map((item) => item.webkitGetAsEntry() ?? item.getAsFile()).filter(Boolean);
    for (const entry of entries) add(entry instanceof File ? [entry] : await filesBelow(entry));
  });

  // On a slow line, photos are chosen before this script has come.
  for (const picker of form.querySelectorAll("input[type=file]")) if (picker.files.length) take(picker);
}

const sendingForm = document.getElementById("upload") ?? document.getElementById("archive");
if (sendingForm) setUpSending(sendingForm);
