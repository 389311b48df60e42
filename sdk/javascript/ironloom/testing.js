// The platform in memory, so that an app's tests run in Node: `npm test`. Import this first, and the app by `await
// import('../app.js')`.
//
// It knows what the manifest declares, and refuses what the host would refuse of names, types and sizes. The effects of a
// failed call are undone. CPU time and memory aren't limited.

import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { parse } from 'smol-toml';

register('./hooks.js', import.meta.url);

let current;
globalThis.ironloomPlatform = (module, name, given) => {
  if (current === undefined) throw new Error(`${module}.${name} is called outside of a call of the platform`);
  return current[module][name](...given);
};

const COLUMNS = { boolean: 'booleans', integer: 'integers', real: 'reals', text: 'texts', blob: 'blobs' };
const refuse = (tag, val) => {
  throw { tag, val };
};
const bytesOf = (text) => new TextEncoder().encode(text).length;

// The host's limits.
const MAX_VALUE = 64 * 1024;
const MAX_PATH = 255;
const MAX_SEGMENTS = 16;

/** A value of an input as the host hands it over: a whole number may be written for an integer. */
function taken(slot, kind, value) {
  const own = kind === 'integer' && Number.isSafeInteger(value) ? BigInt(value) : value;
  const fits = {
    boolean: () => typeof own === 'boolean',
    integer: () => typeof own === 'bigint' && own === BigInt.asIntN(64, own),
    real: () => typeof own === 'number',
    text: () => typeof own === 'string',
    blob: () => own instanceof Uint8Array,
  };
  if (!fits[kind]()) throw new TypeError(`the input ${slot} is of type ${kind}, and ${String(value)} is not`);
  return own;
}

/** The values of an input as the host hands them over. */
function column(kind, values) {
  if (kind === 'real') return Float64Array.from(values);
  return kind === 'integer' ? BigInt64Array.from(values) : values;
}

/** Refuses an entity that can't be part of a point's path. */
function checkEntity(output, entity) {
  const segments = entity === '' ? [] : entity.split('/');
  let problem;
  if (segments.includes('')) problem = 'it has an empty segment';
  else if (segments.includes('.') || segments.includes('..')) problem = 'it has a segment `.` or `..`';
  else if (/[\p{Cc}+#{}]/u.test(entity)) problem = 'it has a control character or one of `+ # { }`';
  else if (bytesOf(`apps/test/${output}/${entity}`) > MAX_PATH)
    problem = `its point's path is longer than ${MAX_PATH} bytes`;
  else if (3 + segments.length > MAX_SEGMENTS) problem = `its point's path has more than ${MAX_SEGMENTS} segments`;
  if (problem) refuse('unknown-entity', `the output ${output} has no point for the entity '${entity}': ${problem}`);
}

export class Platform {
  /** What stands: state (bytes by key), alarms (the message by 'alarm entity'), timers and outputs. */
  #all = { state: new Map(), alarms: new Map(), timers: new Map(), outputs: [] };
  #entities = [];
  /** Lines stay, whatever becomes of the call. */
  logs = [];
  now = 0n;

  constructor(manifest = 'app.toml') {
    this.manifest = parse(readFileSync(manifest, 'utf8'));
    const declared = Object.entries(this.manifest.settings ?? {});
    const defaults = declared.filter(([, one]) => one.default !== undefined);
    this.settings = new Map(defaults.map(([name, one]) => [name, String(one.default)]));
    this.host = this.#host();
  }

  /** Sets a setting of the manifest. */
  set(name, value) {
    if (this.manifest.settings?.[name] === undefined) throw new Error(`the manifest has no setting ${name}`);
    this.settings.set(name, String(value));
  }

  get state() {
    return this.#all.state;
  }

  get outputs() {
    return this.#all.outputs;
  }

  get timers() {
    return this.#all.timers;
  }

  /** The message of an alarm that stands, or undefined. */
  alarm(name, entity) {
    return this.#all.alarms.get(`${name} ${entity}`);
  }

  /** The derived readings of an output for an entity: [time in ms, value]. */
  values(output, entity) {
    const own = this.outputs.filter((one) => one.output === output && one.entity === entity);
    return own.map(({ time, value }) => [time, value]);
  }

  /** Hands readings to a role: [input, entity, time in ms since 1970, value], and 'uncertain' or 'bad' where it isn't
   * good. Gives `failure`, undefined where the call took effect, and `refused`: [entity, reason]. */
  consume(role, readings) {
    const batch = this.#batch(readings);
    for (const frame of batch.frames) for (const at of frame.at) if (at > this.now) this.now = at;
    this.#entities = batch.entities.split('\n');
    const { failure, answer } = this.#call(() => role.consume(batch));
    const refused = (answer ?? []).map(({ frame, reading, reason }) => {
      return [this.#entities[batch.frames[frame].entity[reading]], reason];
    });
    return { failure, refused };
  }

  /** Lets a timer ring; `due` in ms since 1970. One that asks for a retry stays. */
  fire(role, timer, due) {
    const at = BigInt(due) * 1_000_000n;
    if (at > this.now) this.now = at;
    this.#entities = [];
    const wasSet = this.timers.get(timer);
    this.timers.delete(timer);
    const { failure } = this.#call(() => role.fire(timer, at));
    if (wasSet !== undefined && failure?.[0] === 'retry') this.timers.set(timer, wasSet);
    return { failure };
  }

  #call(call) {
    const { state, alarms, timers, outputs } = this.#all;
    const before = { state: new Map(state), alarms: new Map(alarms), timers: new Map(timers), outputs: [...outputs] };
    current = this.host;
    try {
      return { answer: call() };
    } catch (error) {
      this.#all = before;
      // Anything else is a bug of the app's: the test shows where.
      if (error?.tag === undefined) throw error;
      return { failure: [error.tag, error.val] };
    } finally {
      current = undefined;
    }
  }

  #batch(readings) {
    const lines = new Map();
    const slots = new Map();
    readings.forEach(([slot, entity, time, value, quality = 'good'], order) => {
      if (this.manifest.inputs?.[slot] === undefined) throw new Error(`the manifest has no input ${slot}`);
      if (!lines.has(entity)) lines.set(entity, lines.size);
      if (!slots.has(slot)) slots.set(slot, []);
      const own = taken(slot, this.manifest.inputs[slot].type, value);
      slots.get(slot).push({ line: lines.get(entity), at: BigInt(time) * 1_000_000n, order, quality, value: own });
    });
    const names = Object.keys(this.manifest.inputs ?? {}).filter((slot) => slots.has(slot));
    const frames = names.map((slot) => {
      const all = slots.get(slot);
      const { type } = this.manifest.inputs[slot];
      return {
        slot,
        entity: Uint32Array.from(all, (one) => one.line),
        at: BigUint64Array.from(all, (one) => one.at),
        order: slots.size > 1 ? Uint32Array.from(all, (one) => one.order) : undefined,
        quality: all.every((one) => one.quality === 'good') ? undefined : all.map((one) => one.quality),
        values: { tag: COLUMNS[type], val: column(type, all.map((one) => one.value)) },
      };
    });
    return { entities: [...lines.keys()].join('\n'), frames };
  }

  /** The host's side of each function. */
  #host() {
    const check = (key, length = 0) => {
      if (key === '' || key.includes('\n') || bytesOf(key) > 512) refuse('invalid-key', key);
      if (length > 256 * 1024) refuse('too-large', 256 * 1024);
    };
    const put = (key, value) => {
      check(key, value.length);
      this.state.set(key, Uint8Array.from(value));
    };
    const drop = (key) => {
      check(key);
      this.state.delete(key);
    };
    const declared = (alarm) => {
      if (this.manifest.alarms?.[alarm] === undefined) refuse('unknown-alarm', alarm);
    };
    return {
      state: {
        get: (key) => (check(key), this.state.get(key)),
        set: put,
        delete: drop,
        getRows: (prefix) => {
          const found = this.#entities.map((entity) => this.state.get(prefix + entity));
          const bytes = Uint8Array.from(found.flatMap((value) => [...(value ?? [])]));
          return { lengths: Int32Array.from(found, (value) => value?.length ?? -1), bytes };
        },
        setRows: (prefix, lines, { lengths, bytes }) => {
          // All of them, or none.
          let at = 0;
          const rows = Array.from(lines, (line, place) => {
            const key = prefix + this.#entities[line];
            const value = lengths[place] < 0 ? undefined : bytes.subarray(at, (at += lengths[place]));
            check(key, value?.length);
            return [key, value];
          });
          for (const [key, value] of rows) {
            if (value === undefined) drop(key);
            else put(key, value);
          }
        },
        scan: (prefix, after, limit) => {
          const keys = [...this.state.keys()].filter((key) => key.startsWith(prefix) && key > (after ?? '')).sort();
          const entries = keys.slice(0, limit).map((key) => ({ key, value: this.state.get(key) }));
          return { entries, next: keys.length > limit ? keys[limit - 1] : undefined };
        },
      },
      invocation: { now: () => this.now },
      store: { get: (name) => this.settings.get(name) },
      logging: { log: (level, _, message) => this.logs.push([level, message]) },
      outputs: { publish: (batch) => this.#publish(batch) },
      alarms: {
        raise: (alarm, entity, message) => {
          declared(alarm);
          if (bytesOf(message) > 1024 || bytesOf(entity) > 512) refuse('too-long');
          this.#all.alarms.set(`${alarm} ${entity}`, message);
        },
        clear: (alarm, entity) => (declared(alarm), void this.#all.alarms.delete(`${alarm} ${entity}`)),
      },
      schedule: {
        set: (timer, due) => {
          const isDeclared = this.manifest.timers?.[timer] !== undefined;
          if (timer === '' || bytesOf(timer) > 256 || isDeclared) refuse('invalid-name');
          const soonest = this.now + 1_000_000_000n;
          this.timers.set(timer, due > soonest ? due : soonest);
        },
        cancel: (timer) => this.timers.delete(timer),
      },
    };
  }

  #publish({ entities, frames }) {
    // All of them, or none.
    const names = entities.split('\n');
    const readings = [];
    for (const { slot, entity, at, values } of frames) {
      const output = this.manifest.outputs?.[slot];
      if (output?.kind !== 'derived') refuse('unknown-output', slot);
      if (values.tag !== COLUMNS[output.type]) refuse('wrong-type', `${slot} is of type ${output.type}`);
      entity.forEach((line, place) => {
        const value = values.val[place];
        if (typeof value === 'number' && !Number.isFinite(value)) refuse('malformed', `${slot}: ${value} is not finite`);
        const bytes = typeof value === 'string' ? bytesOf(value) : value instanceof Uint8Array ? value.length : 0;
        if (bytes > MAX_VALUE)
          refuse('malformed', `${slot}: a value has ${bytes} bytes; at most ${MAX_VALUE} are allowed`);
        checkEntity(slot, names[line]);
        readings.push({ output: slot, entity: names[line], time: Number(at[place] / 1_000_000n), value });
      });
    }
    this.outputs.push(...readings);
  }
}
