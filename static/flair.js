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

/* Answers that are still awaited: one question for the whole page, more and more rarely where nothing comes, and none
   while nobody looks. */

const MOST_AWAITED = 200;
const SOON = 700;
const RARELY = 15_000;
let untilNextQuestion = SOON;
let nextQuestion = null;
let firstAsked = 0;
let isAsking = false;

function awaitAnswers() {
  untilNextQuestion = SOON;
  planQuestion();
}

function planQuestion() {
  clearTimeout(nextQuestion);
  if (!isAsking && !document.hidden && document.querySelector("[data-awaited]"))
    nextQuestion = setTimeout(askForAnswers, untilNextQuestion);
}

function awaitedPhotos() {
  const photos = [...new Set([...document.querySelectorAll("[data-awaited]")].map((place) => place.dataset.awaited))];
  photos.sort((a, b) => a - b);
  if (firstAsked >= photos.length) firstAsked = 0;
  return photos.slice(firstAsked, firstAsked + MOST_AWAITED);
}

async function askForAnswers() {
  let answers = [];
  isAsking = true;
  try {
    const address = document.body.dataset.answers;
    const response = await fetch(`${address}?photos=${awaitedPhotos()}`);
    if (response.redirected && new URL(response.url).pathname !== address) sayWhetherTheSessionIsOver(true);
    else if (response.ok) {
      sayWhetherTheSessionIsOver(false);
      answers = answersIn(await response.text());
    }
  } catch {
    // The connection is lost: asked again later.
  }
  isAsking = false;
  answers.forEach(showAnswer);
  if (answers.length) document.body.dispatchEvent(new CustomEvent("answered"));
  firstAsked = answers.length ? 0 : firstAsked + MOST_AWAITED; // a photo that is stuck keeps no other one waiting
  untilNextQuestion = answers.length ? SOON : Math.min(1.5 * untilNextQuestion, RARELY);
  planQuestion();
}

function sayWhetherTheSessionIsOver(isOver) {
  for (const place of document.querySelectorAll("[data-awaited]")) {
    const words = place.querySelector(".answer-words") ?? place;
    if (isOver) words.dataset.before ??= words.textContent;
    if (words.dataset.before) words.textContent = isOver ? document.body.dataset.signedOut : words.dataset.before;
  }
}

function answersIn(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.children];
}

function showAnswer(answer) {
  for (const place of document.querySelectorAll(`[data-awaited="${answer.dataset.photo}"]`)) {
    const card = place.closest(".receipt, .beside, .photo-card");
    const isWhole = place.matches(".answer");
    place.replaceWith(answer.querySelector(isWhole ? ".answer" : ".standing > *").cloneNode(true));
    const picture = card?.querySelector(".picture");
    if (answer.dataset.preview && picture && !picture.querySelector("img")) {
      const image = new Image();
      image.alt = "";
      image.src = answer.dataset.preview;
      picture.append(image);
    }
    if (isWhole) say(answer.querySelector(".answer-words").textContent);
  }
}

document.addEventListener("visibilitychange", awaitAnswers);
window.addEventListener("online", awaitAnswers);
awaitAnswers();

/* A page that watches something asks nothing either while nobody looks. */

document.body.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.matches("[data-watches]")) event.preventDefault();
});

/* The review panel of a photo comes anew once the classifier has answered. Whoever is saying something in it already
   keeps it as it is: it only learns which answer there is now. */

let isSayingSomething = false;

document.body.addEventListener("focusin", (event) => {
  isSayingSomething ||= event.target.matches("#review details :is(input, select, textarea)");
});

document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (!isSayingSomething || event.detail.target.id !== "review") return;
  const sent = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  for (const known of event.detail.target.querySelectorAll("details input[type=hidden]"))
    known.value = sent.querySelector(`#review details [name="${known.name}"]`)?.value ?? known.value;
  event.detail.shouldSwap = false;
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

const breedFilter = document.getElementById("breed-filter");
if (breedFilter) setUpBreedFilter(breedFilter);

/* Keys of the review queue: a button says which one presses it. */

function setUpKeys() {
  const help = document.getElementById("keys");
  const breed = document.getElementById("id_breed");
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const button = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (key === "?") help.open = !help.open;
    else if (key === "b" && breed) breed.focus();
    else if (button) button.click();
    else return;
    event.preventDefault();
  });
}

if (document.querySelector("[data-keys]")) setUpKeys();

/* The grid: all or none, and from photo to photo by the arrows. */

function setUpGrid(form) {
  const boxes = [...form.querySelectorAll("input[name=chosen]")];
  const all = form.querySelector("[data-all]");
  const tell = () => say(fill(form.dataset.count, { n: boxes.filter((box) => box.checked).length }));
  all.hidden = false;
  all.addEventListener("click", () => {
    const wish = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = wish;
    tell();
  });
  form.addEventListener("change", tell);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const top = boxes[0].getBoundingClientRect().top;
    const columns = boxes.filter((box) => box.getBoundingClientRect().top === top).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step) return;
    const here = boxes.indexOf(document.activeElement);
    boxes[here < 0 ? 0 : here + step]?.focus();
    event.preventDefault();
  });
}

const grid = document.getElementById("grid");
if (grid) setUpGrid(grid);

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

/* A choice that sends its form by itself; the button is for browsers without scripts. */

for (const select of document.querySelectorAll("select[data-submit]"))
  select.addEventListener("change", () => select.form.requestSubmit());

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
