// Elements and words. A text becomes a text node or the value of an attribute, and never HTML.

/** An element. Attributes that are undefined, null or false are left out, `true` has no value. */
export function h(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) {
        if (value === undefined || value === null || value === false) continue;
        made.setAttribute(key, value === true ? "" : String(value));
    }
    made.append(...present(children));
    return made;
}

const present = (children) =>
    children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);

/**
 * Makes these the children of a place. What is there already stays the same element, so that
 * focus, chosen text and opened details stay, too.
 */
export function show(place, ...children) {
    const fresh = place.cloneNode(false);
    fresh.append(...present(children));
    settle(place, fresh);
}

const keyOf = (node) => node.dataset?.key;
const isAlike = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

function settle(place, fresh) {
    const wanted = [...fresh.childNodes];
    const stays = new Set(wanted.map(keyOf));
    const keyed = new Map([...place.childNodes].map((node) => [keyOf(node), node]));
    let at = place.firstChild;
    const drop = () => {
        const next = at.nextSibling;
        at.remove();
        at = next;
    };
    for (const node of wanted) {
        while (at && keyOf(at) !== undefined && !stays.has(keyOf(at))) drop();
        const key = keyOf(node);
        const there = key === undefined ? at : keyed.get(key);
        if (!there || !isAlike(there, node)) {
            place.insertBefore(node, at);
            continue;
        }
        keyed.delete(key);
        if (there !== at) place.insertBefore(there, at);
        adopt(there, node);
        at = there.nextSibling;
    }
    while (at) drop();
}

/** Makes an element what another one of its kind is. */
function adopt(there, fresh) {
    if (there.isEqualNode(fresh)) return;
    if (there.nodeType === Node.TEXT_NODE) {
        there.data = fresh.data;
        return;
    }
    // Which details are open is for their reader.
    const names = (node) => node.getAttributeNames().filter((name) => name !== "open");
    for (const name of names(there)) {
        if (!fresh.hasAttribute(name)) there.removeAttribute(name);
    }
    for (const name of names(fresh)) {
        if (there.getAttribute(name) !== fresh.getAttribute(name)) there.setAttribute(name, fresh.getAttribute(name));
    }
    settle(there, fresh);
}

/** What stands between backticks is code. */
export function prose(text) {
    const parts = text.split("`");
    if (parts.length % 2 === 0) return [text];
    return parts.map((part, place) => (place % 2 === 1 ? h("code", null, part) : part));
}

/** A state by its shape, its word and its colour: `good`, `busy`, `warn`, `bad` or `dull`. */
export function badge(level, word) {
    const shape = {good: "●", busy: "◐", warn: "▲", bad: "✖", dull: "○"}[level];
    return h("span", {class: `badge ${level}`}, h("span", {"aria-hidden": "true"}, shape), " ", word);
}

export const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

/** A time that has passed, or is left. */
export function span(ms) {
    if (ms < 10_000) return `${Math.round(ms)} ms`;
    if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
    if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
    return `${Math.round(ms / 3_600_000)} h`;
}

export function bytes(number) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    let left = number;
    while (left >= 1024 && at < units.length - 1) {
        left /= 1024;
        at += 1;
    }
    return `${at === 0 ? left : left.toFixed(1)} ${units[at]}`;
}

const two = (number) => String(number).padStart(2, "0");

/** A moment as the reader's clock has it, with the day where that is not today. */
export function moment(ms) {
    const at = new Date(ms);
    const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
    const isToday = at.toDateString() === new Date().toDateString();
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return h("time", {datetime: at.toISOString(), title: at.toISOString()}, isToday ? time : `${day} ${time}`);
}

/** `[first, last]` of each of `n` or `a-b`. */
export const ranges = (texts) => texts.map((text) => {
    const [first, last = first] = text.split("-").map(Number);
    return [first, last];
});

export const slotsIn = (texts) => ranges(texts).reduce((sum, [first, last]) => sum + last - first + 1, 0);

/** The beginning of an id, which tells the nodes of a cluster apart. */
export const short = (id) => h("code", {title: id}, id.slice(0, 8));

/** The controller's word for a role is Kvrocks'. */
export const role = (word) => (word === "slave" ? "replica" : word);
