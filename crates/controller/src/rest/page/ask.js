// Asks the controller. The token is kept by this tab, is sent in a header, and stands in no URL.

const KEPT = "holdfast-token";
/** Longest wait for what a controller knows by itself, for what lies in its store, and for what it is to do, ms. */
const LOOK_MS = 2000;
export const STORE_MS = 10_000;
const ACT_MS = 90_000;

let token = read();
/** Answers that have a tag, by their paths: what has not changed is not sent again. */
const known = new Map();

/** What the controller refused, in its words. */
export class Refused extends Error {
    constructor(status, words) {
        super(words);
        this.status = status;
    }
}

function read() {
    try {
        return sessionStorage.getItem(KEPT) ?? "";
    } catch {
        // Some browsers forbid it: then the token lasts as long as the page.
        return "";
    }
}

/** Whether a token is sent. */
export const hasToken = () => token !== "";

/** Uses this token from here on; an empty one: none. Why it can be none, or nothing. */
export function useToken(text) {
    const given = text.trim();
    if (!/^[\x21-\x7e]*$/.test(given)) return "A token has neither blanks nor other than ASCII characters.";
    token = given;
    known.clear();
    try {
        if (given === "") sessionStorage.removeItem(KEPT);
        else sessionStorage.setItem(KEPT, given);
    } catch {
        // As above.
    }
    return "";
}

async function send(method, path, body, signal, more) {
    const headers = {Accept: "application/json", ...more};
    if (token !== "") headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return fetch(`/api/v1${path}`, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
        signal,
    });
}

/** The data of an answer, or what was refused. */
async function data(answer) {
    const text = await answer.text();
    let read = null;
    try {
        read = text === "" ? {data: null} : JSON.parse(text);
    } catch {
        // What stands between may answer in its own words.
    }
    if (answer.ok && read !== null) return read.data;
    const words = read?.error?.message ?? (text.slice(0, 300) || answer.statusText);
    throw new Refused(answer.status, words);
}

/** What is there, below `/api/v1`. */
export const look = (path, limit = LOOK_MS) => found(path, path, AbortSignal.timeout(limit));

/** What is there once it is another than it was, or after a while; `stop` ends the wait. */
export function change(path, ms, stop) {
    const limit = AbortSignal.timeout(ms + LOOK_MS);
    return found(path, `${path}?wait_ms=${ms}`, AbortSignal.any([limit, stop]));
}

async function found(path, asked, signal) {
    const had = known.get(path);
    const answer = await send("GET", asked, undefined, signal, had && {"If-None-Match": had.tag});
    if (answer.status === 304 && had !== undefined) return had.data;
    const is = await data(answer);
    const tag = answer.headers.get("ETag");
    if (tag !== null) known.set(path, {tag, data: is});
    return is;
}

/** Has something done. */
export async function act(method, path, body) {
    return data(await send(method, path, body, AbortSignal.timeout(ACT_MS)));
}

/** Why nothing came back, for people. */
export function why(error) {
    if (error instanceof Refused) return error.message;
    if (error.name === "TimeoutError") return "it takes too long to answer";
    return "it cannot be reached from here";
}
