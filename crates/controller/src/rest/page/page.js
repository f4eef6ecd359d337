// The page: asks the controller all the time, shows what it tells, and hands on what its reader
// decides. What is shown is greyed as soon as the controller is not heard.

import {ACTS} from "./acts.js";
import {Refused, STORE_MS, change, hasToken, look, useToken, why} from "./ask.js";
import {badge, h, moment, prose, show} from "./parts.js";
import * as views from "./views.js";

/** For so long a question waits for a change; it is the pace of what changes with time alone. */
const WAIT_MS = 1000;
/** Least rest between two rounds, and rest while nobody sees the page. */
const REST_MS = 250;
const HIDDEN_MS = 10_000;
/** For so long nothing may be heard while the page is seen. */
const SILENT_MS = 3000;
/** Events are asked for when something has changed, and otherwise so often. */
const EVENTS_MS = 15_000;
const EVENTS_SHOWN = 60;

const at = (id) => document.getElementById(id);

const site = {
    overview: undefined,
    status: undefined,
    events: undefined,
    /** Of which cluster, in which state and of which kind they are, when they were asked for, and why there are none. */
    eventsOf: "",
    eventsAt: 0,
    eventsFault: "",
    heardAt: 0,
    seenSince: Date.now(),
    fault: "",
    isAsked: false,
    isAll: false,
    isHistory: false,
};

/** The cluster that the address names; without one the worst, and then that one. */
let chosen;

function named() {
    const [, namespace, name] = location.hash.startsWith("#/") ? location.hash.split("/") : [];
    try {
        return name === undefined ? undefined : {namespace: decodeURIComponent(namespace), name: decodeURIComponent(name)};
    } catch {
        return undefined;
    }
}

function choose(overview) {
    const isSame = (wanted) => (one) => wanted !== undefined && views.nameOf(one) === views.nameOf(wanted);
    const found = overview.clusters.find(isSame(named() ?? chosen));
    if (found !== undefined || named() !== undefined) return found;
    return views.worstFirst(overview.clusters)[0];
}

const pathOf = (cluster) => `/namespaces/${encodeURIComponent(cluster.namespace)}/clusters/${encodeURIComponent(cluster.name)}`;

/** What changes when something has happened, and not with time alone. */
const stateOf = ({namespace, name, version, term, healthy, alarms, shards, moves}) => JSON.stringify([
    namespace, name, version, term, healthy, alarms, site.isHistory,
    shards.map((shard) => [shard.id, shard.state, shard.epoch, shard.in_sync]),
    moves?.map((move) => [move.id, move.state, move.paused]),
]);

/** Of a round that was asked for nothing is to be waited for. */
async function hear(isHasty, stop) {
    site.overview = await (isHasty ? look("/overview") : change("/overview", WAIT_MS, stop));
    const {overview} = site;
    chosen = choose(overview);
    if (chosen === undefined) {
        [site.status, site.events, site.eventsOf] = [undefined, undefined, ""];
        return;
    }
    const status = await look(`${pathOf(chosen)}/status`);
    const isOther = site.status === undefined || views.nameOf(site.status) !== views.nameOf(status);
    if (isOther) [site.events, site.eventsOf] = [undefined, ""];
    site.status = status;
    hearEvents(status);
}

/** Not waited for: they lie in the controller's store, and without that all else is still told. */
async function hearEvents(status) {
    const state = stateOf(status);
    const now = Date.now();
    if (state === site.eventsOf && now - site.eventsAt < EVENTS_MS) return;
    [site.eventsOf, site.eventsAt] = [state, now];
    const only = site.isHistory ? "&history=yes" : "";
    const isWanted = () => site.eventsOf === state;
    try {
        const {events} = await look(`${pathOf(status)}/events?limit=${EVENTS_SHOWN}${only}`, STORE_MS);
        if (isWanted()) [site.events, site.eventsFault] = [events, ""];
    } catch (error) {
        if (isWanted()) site.eventsFault = why(error);
    }
    draw();
}

let [timer, isDue] = [0, true];
/** Ends the wait of the round that is under way; undefined while none is. */
let running;

/** A round at once: somebody wants to see something else, or what became of an act. */
function hurry() {
    isDue = true;
    if (running === undefined) round();
    else running.abort();
}

/** Asks, shows, and does so again. */
async function round() {
    clearTimeout(timer);
    const [began, before, isHasty] = [Date.now(), site.overview, isDue];
    isDue = false;
    running = new AbortController();
    try {
        await hear(isHasty, running.signal);
        [site.fault, site.isAsked, site.heardAt] = ["", false, Date.now()];
    } catch (error) {
        if (error.name !== "AbortError") failed(error);
    }
    running = undefined;
    // One that was answered at once, and with nothing new, has not waited.
    const isNew = site.fault === "" && site.overview !== before;
    const rest = document.hidden ? HIDDEN_MS : isNew ? REST_MS : Math.max(REST_MS, WAIT_MS - (Date.now() - began));
    if (!site.isAsked) timer = setTimeout(round, isDue ? 0 : rest);
    draw();
}

function failed(error) {
    site.isAsked = error instanceof Refused && error.status === 401;
    site.fault = why(error);
    if (!(error instanceof Refused || error.name === "TimeoutError" || error instanceof TypeError)) console.error(error);
}

/** Since when nothing was heard; undefined while the controller is heard. */
function silentSince() {
    if (site.fault !== "") return site.heardAt;
    const since = Math.max(site.heardAt, site.seenSince);
    return site.heardAt > 0 && !document.hidden && Date.now() - since > SILENT_MS ? site.heardAt : undefined;
}

const mayAct = () => silentSince() === undefined && site.overview.by.role !== "viewer";

function draw() {
    at("sign").hidden = !site.isAsked;
    at("all").hidden = site.isAsked || site.overview === undefined;
    drawSilence();
    if (site.isAsked) return drawSign();
    if (site.overview === undefined) return undefined;
    const {overview, status} = site;
    const whole = views.overall(overview);
    show(at("state"), badge(whole.level, whole.word));
    const isStale = silentSince() !== undefined;
    document.title = `${isStale ? "no answer" : whole.word} – Holdfast`;
    const {who, role} = overview.by;
    const within = overview.within.length === 0 ? "" : `, within ${overview.within.join(", ")}`;
    const leads = overview.leader === undefined ? "" : `${overview.leader} leads · `;
    show(at("who"), `${leads}you are ${who}: ${role}${within}`);
    at("leave").hidden = !hasToken();
    const wrong = views.wrong(overview, status);
    at("wrong").hidden = wrong.length === 0;
    show(at("alarms"), wrong);
    show(at("clusters"), views.clusters(overview, chosen));
    drawCluster();
    return undefined;
}

function drawCluster() {
    const {overview, status, events, eventsFault, isAll, isHistory} = site;
    const line = overview.clusters.find((one) => status !== undefined && views.nameOf(one) === views.nameOf(status));
    if (line !== undefined) {
        show(at("main"), views.cluster({status, events, eventsFault, line, may: mayAct(), isAll, isHistory}));
        return;
    }
    const wanted = named();
    const words = wanted === undefined
        ? "There is no cluster yet: `holdfast ctl create cluster` makes one."
        : `${views.nameOf(wanted)} is not here, or not for you to see.`;
    show(at("main"), h("p", {class: "quiet"}, prose(words)));
}

/** Its words stay as long as the silence lasts: readers that speak would repeat them else. */
function drawSilence() {
    const since = silentSince();
    const isSilent = since !== undefined && !site.isAsked;
    document.body.classList.toggle("silent", isSilent);
    at("silence").hidden = !isSilent;
    if (!isSilent) return;
    const of = site.fault === "" ? "it takes too long to answer" : site.fault;
    const heard = since === 0 ? ["Nothing was heard of the controller yet: "] : ["What is shown is of ", moment(since), ". Of the controller: "];
    show(at("silence"), heard, `${of}. It is asked again and again.`);
}

function drawSign() {
    for (const id of ["wrong", "leave"]) at(id).hidden = true;
    // What one reader has seen is not left for the next one.
    for (const id of ["state", "who", "alarms", "clusters", "main"]) show(at(id));
    show(at("why"), hasToken() ? `The controller says: ${site.fault}.` : "This controller wants to know who asks.");
    document.title = "Sign in – Holdfast";
    const field = at("token");
    if (document.activeElement !== field && field.value === "") field.focus();
}

/** Tells what became of something, until it is put away or something else is told. */
function tell(words) {
    const place = at("told");
    place.hidden = false;
    show(place, words, " ", h("button", {type: "button", "data-away": "yes"}, "Close"));
}

/** What the dialog asks now, and of which cluster. */
let plan;

async function propose(name, data) {
    const {status} = site;
    if (status === undefined || !mayAct()) return;
    let made;
    try {
        made = await ACTS[name]?.(data, {status, path: pathOf(status)});
    } catch (error) {
        tell(why(error));
        return;
    }
    if (made?.notice !== undefined) tell(made.notice);
    // What was asked for meanwhile stands in the dialog, and stays what it asks.
    if (made?.title === undefined || at("ask").open) return;
    plan = {...made, of: views.nameOf(status)};
    show(at("ask-title"), plan.title);
    show(at("ask-words"), plan.words.map((words) => h("p", null, words)));
    show(at("ask-yes"), plan.yes);
    at("ask-yes").classList.toggle("grave", plan.isGrave === true);
    at("ask-field").hidden = plan.field === undefined;
    show(at("ask-label"), plan.field ?? "");
    at("ask-text").value = "";
    fault("");
    at("ask").showModal();
}

function fault(words) {
    at("ask-fault").hidden = words === "";
    show(at("ask-fault"), words);
}

/** What keeps the plan from being carried out; nothing if what it says is still so. */
function obstacle() {
    const {status} = site;
    if (silentSince() !== undefined) return "The controller is not heard just now.";
    if (status === undefined || !mayAct()) return "This may not be done any more.";
    if (views.nameOf(status) !== plan.of) return "Another cluster is shown by now.";
    return plan.still?.(status) ?? "";
}

async function carryOut() {
    const mine = plan;
    const stands = obstacle();
    if (stands !== "") return fault(stands);
    const yes = at("ask-yes");
    yes.disabled = true;
    show(yes, "Under way …");
    fault("");
    let [words, isDone] = ["", false];
    try {
        words = await mine.run(at("ask-text").value.trim());
        isDone = true;
    } catch (error) {
        const isKnown = error instanceof Refused;
        words = isKnown ? error.message : `Whether it was done is not known (${why(error)}): the events will tell.`;
    }
    yes.disabled = false;
    show(yes, plan.yes);
    // Somebody may have put the dialog away, and asked for something else.
    const isAsking = at("ask").open && plan === mine;
    if (isAsking && isDone) at("ask").close();
    if (isAsking && !isDone) fault(words);
    else tell(isDone ? words : `${mine.title}: ${words}`);
    return hurry();
}

function pressed(event) {
    const button = event.target.closest("button");
    if (button === null) return;
    const {act, all, history, away, ...data} = button.dataset;
    if (act !== undefined) propose(act, data);
    if (away !== undefined) at("told").hidden = true;
    if (all !== undefined) {
        site.isAll = all === "yes";
        draw();
    }
    if (history !== undefined) {
        site.isHistory = history === "yes";
        draw();
        hurry();
    }
}

function signed(event) {
    event.preventDefault();
    const words = useToken(at("token").value);
    if (words !== "") {
        show(at("why"), words);
        return;
    }
    at("token").value = "";
    site.isAsked = false;
    hurry();
}

function left() {
    useToken("");
    [site.overview, site.status, site.events, site.eventsOf] = [undefined, undefined, undefined, ""];
    hurry();
}

document.addEventListener("click", pressed);
at("sign").addEventListener("submit", signed);
at("leave").addEventListener("click", left);
at("ask-no").addEventListener("click", () => at("ask").close());
at("ask-yes").addEventListener("click", carryOut);
document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    at("main").focus();
});
addEventListener("hashchange", () => {
    site.isAll = false;
    at("main").focus({preventScroll: true});
    hurry();
});
document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    site.seenSince = Date.now();
    hurry();
});
addEventListener("online", hurry);
setInterval(() => {
    // Only where something changes with time alone: that nothing is heard.
    if (document.body.classList.contains("silent") !== (silentSince() !== undefined && !site.isAsked)) draw();
}, 1000);
round();
