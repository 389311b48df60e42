// Derived readings. The manifest has [outputs.NAME], and the world includes ironloom:platform/outputs.

import { publish } from 'ironloom:outputs/outputs@0.1.0';
import { host, fromTime, Mistake } from './index.js';

/** Derived readings that are sent together, by `publish`. */
export class Outputs {
  #readings = new Map();

  /** A derived reading for a reading's entity and time. A number is a real, a BigInt an integer. */
  derive(reading, output, value) {
    this.#push(output, reading.entity, reading.at, value);
  }

  /** A derived reading of an entity, at a time in milliseconds since 1970. */
  push(output, entity, time, value) {
    this.#push(output, entity, fromTime(time), value);
  }

  #push(output, entity, at, value) {
    // The table of entities has one on each line.
    if (entity.includes('\n')) throw new Mistake(`the entity ${JSON.stringify(entity)} contains a line feed`);
    if (!this.#readings.has(output)) this.#readings.set(output, []);
    this.#readings.get(output).push([entity, at, value]);
  }

  publish() {
    if (this.#readings.size === 0) return;
    const lines = new Map();
    const lineOf = (entity) => {
      if (!lines.has(entity)) lines.set(entity, lines.size);
      return lines.get(entity);
    };
    const frames = [...this.#readings].map(([slot, readings]) => ({
      slot,
      entity: Uint32Array.from(readings, ([entity]) => lineOf(entity)),
      at: BigUint64Array.from(readings, ([, at]) => at),
      order: undefined,
      quality: undefined,
      values: column(readings.map(([, , value]) => value)),
    }));
    this.#readings.clear();
    host('outputs', () => publish({ entities: [...lines.keys()].join('\n'), frames }));
  }
}

function column(values) {
  switch (typeof values[0]) {
    case 'number':
      return { tag: 'reals', val: Float64Array.from(values) };
    case 'bigint':
      return { tag: 'integers', val: BigInt64Array.from(values) };
    case 'boolean':
      return { tag: 'booleans', val: values };
    case 'string':
      return { tag: 'texts', val: values };
    default:
      return { tag: 'blobs', val: values };
  }
}
