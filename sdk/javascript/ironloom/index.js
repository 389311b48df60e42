// Apps for Ironloom in JavaScript: readings, state, settings and the log. Outputs, alarms and timers that an app sets have
// a file each, since an app may only import what its world has.

import * as state from 'ironloom:state/state@0.1.0';
import { now as hostNow } from 'ironloom:invocation/invocation@0.1.0';
import { get } from 'wasi:config/store@0.2.0-rc.1';
import { log as hostLog } from 'wasi:logging/logging@0.1.0-draft';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Throw it where the call can't be done, now or later: the host finds the reading that is to blame. */
export class Reject extends Error {}

/** Throw it where something is missing for now: the same call comes again, and what is behind it waits. */
export class Retry extends Error {}

/** The host refused something: an undeclared name, a wrong type, a value that is too large. */
export class Mistake extends Reject {}

/** Runs a call of the host's, and tells its error in words. */
export function host(what, call) {
  try {
    return call();
  } catch (error) {
    const told = error?.payload ?? error;
    if (typeof told?.tag !== 'string') throw error;
    throw new Mistake(told.val === undefined ? `${what}: ${told.tag}` : `${what}: ${told.tag}: ${told.val}`);
  }
}

/** Runs a call into the app, and turns what it throws into the host's words. */
function answer(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof Retry) throw { tag: 'retry', val: error.message };
    if (error instanceof Reject) throw { tag: 'reject', val: error.message };
    // A bug ends the call as a trap, which names no line: the log does.
    log.error(`${error}\n${error?.stack ?? ''}`);
    throw error;
  }
}

/** The role of an app with inputs: `export const readings = takes((batch) => { … })`. */
export const takes = (take) => ({
  consume: (batch) =>
    answer(() => {
      const taken = new Batch(batch);
      take(taken);
      return taken.end();
    }),
});

/** The role of an app with timers: `export const timers = rings((timer, due) => { … })`, `due` in ms since 1970. */
export const rings = (ring) => ({
  fire: (timer, due) => answer(() => void ring(timer, toTime(due))),
});

/** Milliseconds since 1970, as `Date` has them, of the host's nanoseconds. */
export const toTime = (nanoseconds) => Number(nanoseconds / 1000n) / 1000;

/** The host's nanoseconds of milliseconds since 1970; a BigInt has nanoseconds already, as `reading.at`. */
export const fromTime = (time) => (typeof time === 'bigint' ? time : BigInt(Math.round(time * 1000)) * 1000n);

/** One reading of an input. */
class Reading {
  constructor(batch, frame, place, { slot, at, values, quality }, entity) {
    this.input = slot;
    this.entity = entity;
    /** When the source took it: nanoseconds since 1970, a BigInt. */
    this.at = at[place];
    this.value = values.val[place];
    const trust = quality?.[place] ?? 'good';
    /** A bad reading's value is a placeholder: NaN, 0, false or empty. */
    this.isBad = trust === 'bad';
    this.isUncertain = trust === 'uncertain';
    this.refuse = (reason) => batch.refused.push({ frame, reading: place, reason: String(reason) });
  }

  /** When the source took it: milliseconds since 1970. */
  get time() {
    return toTime(this.at);
  }
}

/** The readings of one call, in the order in which the site recorded them. */
class Batch {
  #batch;
  #tables = new Map();
  refused = [];

  constructor(batch) {
    this.#batch = batch;
    this.entities = batch.entities.split('\n');
  }

  *[Symbol.iterator]() {
    const found = [];
    this.#batch.frames.forEach((frame, number) => {
      for (let place = 0; place < frame.at.length; place++) {
        const entity = this.entities[frame.entity[place]];
        found.push([frame.order?.[place] ?? place, new Reading(this, number, place, frame, entity)]);
      }
    });
    found.sort((one, other) => one[0] - other[0]);
    for (const [, reading] of found) yield reading;
  }

  /** What the app stored under `prefix` for each entity of the batch: a Map of JSON values by entity. What is put into
   * it is stored when the call returns. */
  table(prefix) {
    if (!this.#tables.has(prefix)) this.#tables.set(prefix, new Table(prefix, this.entities));
    return this.#tables.get(prefix);
  }

  end() {
    for (const table of this.#tables.values()) table.save();
    return this.refused;
  }
}

/** JSON values by entity, loaded and stored with one host call each. */
class Table extends Map {
  #prefix;
  #lines;
  #before = new Map();

  constructor(prefix, entities) {
    super();
    this.#prefix = prefix;
    this.#lines = new Map(entities.map((entity, line) => [entity, line]));
    const { lengths, bytes } = host('state', () => state.getRows(prefix));
    let at = 0;
    entities.forEach((entity, line) => {
      if (lengths[line] < 0) return;
      const text = decoder.decode(bytes.subarray(at, (at += lengths[line])));
      this.#before.set(entity, text);
      this.set(entity, JSON.parse(text));
    });
  }

  save() {
    const stranger = [...this.keys()].find((entity) => !this.#lines.has(entity));
    if (stranger !== undefined) {
      throw new Mistake(`"${stranger}" is not an entity of the batch: use store for other keys`);
    }
    const lines = [];
    const values = [];
    for (const [entity, line] of this.#lines) {
      const text = this.has(entity) ? toJson(this.get(entity)) : undefined;
      if (text === this.#before.get(entity)) continue;
      lines.push(line);
      values.push(text === undefined ? undefined : encoder.encode(text));
    }
    if (lines.length === 0) return;
    const bytes = new Uint8Array(values.reduce((sum, value) => sum + (value?.length ?? 0), 0));
    let at = 0;
    for (const value of values.filter(Boolean)) {
      bytes.set(value, at);
      at += value.length;
    }
    const lengths = Int32Array.from(values, (value) => value?.length ?? -1);
    host('state', () => state.setRows(this.#prefix, Uint32Array.from(lines), { lengths, bytes }));
  }
}

/** JSON, but not of what it would silently change: NaN and infinity would become null. */
function toJson(value) {
  const text = JSON.stringify(value, (key, one) => {
    if (typeof one === 'bigint') throw new Mistake(`${key || 'the value'} is a BigInt, which JSON can't store: use Number or String`);
    if (typeof one === 'number' && !Number.isFinite(one)) {
      throw new Mistake(`${key || 'the value'} is ${one}, which JSON can't store: leave it out, or use null`);
    }
    return one;
  });
  if (text === undefined) throw new Mistake(`${String(value)} can't be stored as JSON`);
  return text;
}

/** JSON values by key, for what isn't about an entity of the batch. */
export const store = {
  get(key) {
    const found = host('state', () => state.get(key));
    return found === undefined ? undefined : JSON.parse(decoder.decode(found));
  },
  set: (key, value) => host('state', () => state.set(key, encoder.encode(toJson(value)))),
  delete: (key) => host('state', () => state['delete'](key)),
  /** All keys that begin with `prefix`, with their values, in order. */
  *scan(prefix) {
    let after;
    do {
      const page = host('state', () => state.scan(prefix, after, 1000));
      for (const { key, value } of page.entries) yield [key, JSON.parse(decoder.decode(value))];
      after = page.next;
    } while (after !== undefined);
  },
};

/** A setting as text; undefined where it isn't set. `Number(setting('limit'))` reads a real. */
export const setting = (name) => host('settings', () => get(name));

/** The time of this call: milliseconds since 1970. It stands still. */
export const now = () => toTime(hostNow());

/** The app's log. */
export const log = {
  info: (message) => hostLog('info', '', String(message)),
  warn: (message) => hostLog('warn', '', String(message)),
  error: (message) => hostLog('error', '', String(message)),
};
