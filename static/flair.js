"use strict";

const live = document.getElementById("live");

function say(text) {
  live.textContent = text;
}

function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function wasSentElsewhere(xhr, path) {
  return Boolean(xhr.responseURL) && new URL(xhr.responseURL).pathname !== new URL(path, location.href).pathname;
}

/* Uploading: one request per file, so that each has its own progress, its own receipt and its own retry. */

function setUpUpload(form) {
  const AT_ONCE = 3;
  const list = document.getElementById("receipts");
  const blankRow = document.getElementById("upload-row").content.firstElementChild;
  const batch = document.getElementById("batch");
  const batchText = batch.querySelector(".batch-text");
  const batchBar = batch.querySelector("progress");
  const retryAll = batch.querySelector("button");
  const words = batch.dataset;
  let items = [];
  let lastSaid = 0;

  const having = (state) => items.filter((item) => item.state === state);
  const isBusy = () => items.some((item) => item.state === "waiting" || item.state === "sending");

  function show() {
    const done = having("done").length;
    const failed = having("failed").length;
    let text = fill(words.count, { done, total: items.length });
    if (failed) text += " · " + fill(words.failed, { failed });
    batchText.textContent = text;
    const underWay = items.filter((item) => item.state !== "failed");
    batchBar.max = underWay.reduce((sum, item) => sum + item.file.size, 0) || 1;
    batchBar.value = underWay.reduce((sum, item) => sum + item.loaded, 0);
    retryAll.hidden = !items.some((item) => item.canRetry);
    batch.hidden = false;
    if (!isBusy() || Date.now() - lastSaid > 5000) {
      lastSaid = Date.now();
      say(text);
    }
  }

  function note(item, text) {
    item.row.querySelector(".receipt-note").textContent = text;
  }

  function fail(item, text, { canRetry = false, mustLogIn = false } = {}) {
    Object.assign(item, { state: "failed", loaded: 0, canRetry });
    note(item, text);
    item.row.classList.add("refused");
    item.row.querySelector("progress").hidden = true;
    item.row.querySelector("button").hidden = !canRetry;
    item.row.querySelector("a").hidden = !mustLogIn;
  }

  function retry(item) {
    Object.assign(item, { state: "waiting", canRetry: false });
    note(item, words.waiting);
    item.row.classList.remove("refused");
    item.row.querySelector("progress").hidden = false;
    item.row.querySelector("button").hidden = true;
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
    receipts.forEach((receipt) => htmx.process(receipt));
  }

  function send(item) {
    const xhr = new XMLHttpRequest();
    const bar = item.row.querySelector("progress");
    const body = new FormData();
    body.append("images", item.file, item.file.name);
    item.state = "sending";
    note(item, words.sending);
    xhr.open("POST", form.action);
    xhr.timeout = 10 * 60 * 1000;
    xhr.setRequestHeader("HX-Request", "true");
    xhr.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
    xhr.upload.onprogress = (event) => {
      item.loaded = Math.min(event.loaded, item.file.size);
      bar.value = event.loaded / event.total;
      show();
    };
    xhr.upload.onload = () => note(item, words.checking);
    xhr.onload = () => {
      const answer = document.createElement("template");
      answer.innerHTML = xhr.responseText;
      const receipts = [...answer.content.children].filter((child) => child.matches(".receipt"));
      if (wasSentElsewhere(xhr, form.action) || xhr.status === 401 || xhr.status === 403)
        fail(item, document.body.dataset.signedOut, { mustLogIn: true });
      else if (receipts.length) accept(item, receipts);
      else if (xhr.status === 413) fail(item, words.large);
      else fail(item, words.server, { canRetry: true });
    };
    xhr.onerror = xhr.ontimeout = () => fail(item, words.lost, { canRetry: true });
    xhr.onloadend = sendNext;
    xhr.send(body);
  }

  function sendNext() {
    const free = AT_ONCE - having("sending").length;
    having("waiting").slice(0, free).forEach(send);
    show();
  }

  function addRow(item) {
    const { row, file } = item;
    const image = new Image();
    item.url = URL.createObjectURL(file);
    image.alt = "";
    image.decoding = "async";
    // Most browsers cannot draw HEIC: the box then keeps its placeholder.
    image.onerror = () => image.remove();
    image.src = item.url;
    row.querySelector(".picture").append(image);
    row.querySelector(".receipt-name").textContent = file.name;
    row.querySelector("progress").setAttribute("aria-label", file.name);
    row.querySelector("button").addEventListener("click", () => retry(item));
    note(item, words.waiting);
  }

  function add(files) {
    if (!files.length) return;
    if (!isBusy()) items = having("failed");
    const rows = new DocumentFragment();
    for (const file of files) {
      const item = { file, row: blankRow.cloneNode(true), state: "waiting", loaded: 0, canRetry: false };
      addRow(item);
      if (file.size > Number(form.dataset.maxBytes)) fail(item, words.large);
      items.push(item);
      rows.append(item.row);
    }
    list.prepend(rows);
    sendNext();
  }

  const retryFailed = () => items.filter((item) => item.canRetry).forEach(retry);
  retryAll.addEventListener("click", retryFailed);
  window.addEventListener("online", retryFailed);
  window.addEventListener("beforeunload", (event) => {
    if (isBusy()) event.preventDefault();
  });

  form.addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });

  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files");
  function drag(change) {
    depth = Math.max(0, change === 0 ? 0 : depth + change);
    form.classList.toggle("dragging", depth > 0);
  }
  document.addEventListener("dragenter", (event) => holdsFiles(event) && drag(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && drag(-1));
  document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drag(0);
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const files = dropped.filter((item) => !item.webkitGetAsEntry()?.isDirectory).map((item) => item.getAsFile());
    add(files);
    if (files.length < dropped.length) {
      batch.hidden = false;
      batchText.textContent = words.folder;
      say(words.folder);
    }
  });
}

/* Answers that are still awaited. */

function awaited(event) {
  return event.detail.elt.matches(".answer.pending") ? event.detail.elt : null;
}

for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"])
  document.body.addEventListener(name, (event) => {
    const answer = awaited(event);
    const status = event.detail.xhr.status;
    if (answer && (!status || status === 429 || status >= 500)) setTimeout(() => htmx.trigger(answer, "retry"), 5000);
  });

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const answer = awaited(event);
  if (answer && wasSentElsewhere(event.detail.xhr, event.detail.pathInfo.requestPath)) {
    event.detail.shouldSwap = false;
    answer.querySelector(".answer-words").textContent = document.body.dataset.signedOut;
  }
});

document.body.addEventListener("htmx:load", (event) => {
  const answer = event.detail.elt;
  if (!answer.matches(".answer:not(.pending)")) return;
  say(answer.querySelector(".answer-words").textContent);
  const picture = answer.closest(".receipt, .beside")?.querySelector(".picture");
  if (answer.dataset.preview && picture && !picture.querySelector("img")) {
    const image = new Image();
    image.alt = "";
    image.src = answer.dataset.preview;
    picture.append(image);
  }
});

/* Finding a breed by any of its names, accents or not. */

function setUpBreedFilter(box) {
  const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const breeds = [...document.querySelectorAll(".breeds li")].map((row) => ({ row, text: fold(row.textContent) }));
  const blocks = [...document.querySelectorAll(".breed-group, .unknown")];
  const none = document.getElementById("breed-none");
  box.hidden = false;
  box.querySelector("input").addEventListener("input", (event) => {
    const sought = fold(event.target.value.trim());
    for (const { row, text } of breeds) row.hidden = !text.includes(sought);
    for (const block of blocks) block.hidden = !block.querySelector(".breeds li:not([hidden])");
    const found = breeds.filter(({ row }) => !row.hidden).length;
    none.hidden = found > 0;
    say(found ? fill(box.dataset.count, { n: found }) : none.textContent);
  });
}

/* Choosing photos of a list: the form that files them stays away until one is chosen. */

function setUpFiling(form) {
  function show(event) {
    const chosen = [...form.elements].filter((element) => element.name === "photos" && element.checked).length;
    form.hidden = !chosen;
    if (event?.target.name === "photos") say(fill(form.dataset.count, { n: chosen }));
  }
  document.addEventListener("change", show);
  show();
}

/* Photos of a dog in another order, by drag; the menu of each photo does the same. */

function setUpSorting(list) {
  const form = document.getElementById(list.dataset.sortable);
  let dragged = null;
  list.addEventListener("dragstart", (event) => {
    dragged = event.target.closest("li");
    dragged.classList.add("dragged");
  });
  list.addEventListener("dragover", (event) => {
    const over = event.target.closest("[data-photo]");
    if (!dragged || !over) return;
    event.preventDefault();
    if (over === dragged) return;
    const follows = dragged.compareDocumentPosition(over) & Node.DOCUMENT_POSITION_FOLLOWING;
    over[follows ? "after" : "before"](dragged);
  });
  list.addEventListener("drop", (event) => event.preventDefault());
  list.addEventListener("dragend", () => {
    dragged.classList.remove("dragged");
    dragged = null;
    const body = new FormData(form);
    body.append("action", "order");
    for (const item of list.children) body.append("photo", item.dataset.photo);
    fetch(form.action, { method: "POST", body, redirect: "manual" });
  });
}

const uploadForm = document.getElementById("upload");
if (uploadForm) setUpUpload(uploadForm);

const breedFilter = document.getElementById("breed-filter");
if (breedFilter) setUpBreedFilter(breedFilter);

/* A choice that sends its form by itself; the button is for browsers without scripts. */

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.form.querySelector("button").hidden = true;
  select.addEventListener("change", () => select.form.requestSubmit());
}

const filing = document.getElementById("filing");
if (filing) setUpFiling(filing);

for (const list of document.querySelectorAll("[data-sortable]")) setUpSorting(list);

if (matchMedia("(min-width: 60rem)").matches)
  for (const details of document.querySelectorAll("[data-open-wide]")) details.open = true;

const account = document.querySelector(".account");
if (account) {
  document.addEventListener("click", (event) => {
    if (!account.contains(event.target)) account.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && account.open) {
      account.open = false;
      account.querySelector("summary").focus();
    }
  });
}
