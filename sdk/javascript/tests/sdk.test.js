// The modules in ironloom/ on the platform in memory. The end-to-end tests run this in an app that `ironloom new` made.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Platform } from '../ironloom/testing.js';

const { Reject, Retry, now, rings, store, takes } = await import('../ironloom/index.js');
const { migrates } = await import('../ironloom/lifecycle.js');
const { Outputs } = await import('../ironloom/outputs.js');
const alarms = await import('../ironloom/alarms.js');
const schedule = await import('../ironloom/schedule.js');

function run(take, readings = [['temperature', 'a', 5, 1]]) {
  const platform = new Platform();
  return [platform, platform.consume(takes(take), readings)];
}

function derive(output, value) {
  return (batch) => {
    const out = new Outputs();
    for (const reading of batch) out.derive(reading, output, value);
    out.publish();
  };
}

function deriveFor(entity) {
  return () => {
    const out = new Outputs();
    out.push('smoothed', 'a', now(), 1);
    out.push('smoothed', entity, now(), 1);
    out.publish();
  };
}

/** A platform with inputs and outputs of these types. */
function withTypes(types) {
  const platform = new Platform();
  const all = (more) => Object.fromEntries(Object.entries(types).map(([name, type]) => [name, { type, ...more }]));
  platform.manifest.inputs = all({});
  platform.manifest.outputs = all({ kind: 'derived' });
  return platform;
}

test('inputs have the types that the host gives them', () => {
  const seen = [];
  const take = takes((batch) => {
    for (const { value } of batch) seen.push(value);
  });
  const platform = withTypes({ level: 'real', count: 'integer', name: 'text' });
  const good = [['level', 'a', 1, 20], ['count', 'a', 2, 5], ['name', 'a', 3, 'x']];
  assert.equal(platform.consume(take, good).failure, undefined);
  assert.deepEqual(seen, [20, 5n, 'x']);
  for (const [slot, value] of [['level', '20'], ['level', 5n], ['count', 5.5], ['count', 2n ** 63n], ['name', 1]]) {
    const words = new RegExp(`the input ${slot} is of type`);
    assert.throws(() => platform.consume(take, [[slot, 'a', 1, value]]), words);
  }
});

test('a long text is refused as the host does', () => {
  const publish = (text) =>
    takes(() => {
      const out = new Outputs();
      out.push('name', 'a', now(), text);
      out.publish();
    });
  const platform = withTypes({ name: 'text' });
  const readings = [['name', 'a', 1, 'x']];
  assert.equal(platform.consume(publish('é'.repeat(32_768)), readings).failure, undefined);
  const { failure } = platform.consume(publish('é'.repeat(32_769)), readings);
  assert.ok(failure?.[1].includes('malformed'), `${failure}`);
});

test('a timer that asks for a retry stays', () => {
  const waits = rings(() => {
    throw new Retry('not yet');
  });
  const [platform] = run(() => schedule.set('later', now() + 60_000));
  const before = [...platform.timers];
  assert.deepEqual(platform.fire(waits, 'later', 1_000_000).failure, ['retry', 'not yet']);
  assert.deepEqual([...platform.timers], before);
});

test('what the host refuses rejects the call and undoes it', () => {
  for (const [take, words] of [
    [(batch) => batch.table('t/').set('a', { x: NaN }), "JSON can't store"],
    [(batch) => batch.table('t/').set('a', 5n), "JSON can't store"],
    [(batch) => batch.table('t/').set('other', 1), 'not an entity of the batch'],
    [() => alarms.raise('no-such', 'a', 'm'), 'unknown-alarm: no-such'],
    [derive('smoothed', 5n), 'wrong-type'],
    [derive('none', 5), 'unknown-output'],
    [derive('smoothed', Infinity), 'malformed'],
    [() => store.set('', 1), 'invalid-key'],
    ...['a//b', '..', 'a/{b}', 'a\x07', 'x'.repeat(250), 'a/'.repeat(13) + 'a'].map((entity) => {
      return [deriveFor(entity), 'unknown-entity'];
    }),
    [() => schedule.set('x'.repeat(257), now()), 'invalid-name'],
    [() => store.set('k', 'x'.repeat(300_000)), 'too-large'],
  ]) {
    const [platform, { failure }] = run(take);
    assert.equal(failure?.[0], 'reject', words);
    assert.ok(failure[1].includes(words), failure[1]);
    assert.deepEqual([platform.state.size, platform.outputs], [0, []]);
  }
});

test('a retry keeps its reason, and so does a migration that fails', () => {
  const [, { failure }] = run(() => {
    throw new Retry('later');
  });
  assert.deepEqual(failure, ['retry', 'later']);

  const { migrate } = migrates((previous, resume) => {
    if (previous !== '0.1.0') throw new Reject(`${previous} is unknown`);
    return resume === undefined ? { done: 1 } : undefined;
  });
  const resume = migrate('0.1.0', undefined);
  assert.equal(new TextDecoder().decode(resume), '{"done":1}');
  assert.equal(migrate('0.1.0', resume), undefined);
  assert.throws(() => migrate('0.0.9', undefined), (error) => error === '0.0.9 is unknown');
});

test('state lasts and readings keep their order', () => {
  const seen = [];
  const [platform, { failure }] = run(
    (batch) => {
      for (const { entity, value, isBad } of batch) seen.push([entity, value, isBad]);
      batch.table('t/').set('b', { n: 1 });
      store.set('k/1', [1]);
      store.set('k/2', 2);
      assert.deepEqual([...store.scan('k/')], [['k/1', [1]], ['k/2', 2]]);
      store.delete('k/2');
      schedule.set('later', now() + 60_000);
    },
    [['temperature', 'b', 7, 2], ['temperature', 'a', 3, 1, 'bad'], ['temperature', 'b', 9, 3]],
  );
  assert.equal(failure, undefined);
  assert.deepEqual(seen, [['b', 2, false], ['a', 1, true], ['b', 3, false]]);
  const texts = [...platform.state].map(([key, value]) => [key, new TextDecoder().decode(value)]);
  assert.deepEqual(texts.sort(), [['k/1', '[1]'], ['t/b', '{"n":1}']]);
  assert.deepEqual([...platform.timers], [['later', 60_009_000_000n]]);

  const ringing = rings((timer, due) => {
    const out = new Outputs();
    out.push('smoothed', 'x', due, 1.5);
    out.publish();
  });
  assert.equal(platform.fire(ringing, 'later', 1_000_000).failure, undefined);
  assert.deepEqual(platform.outputs, [{ output: 'smoothed', entity: 'x', time: 1_000_000, value: 1.5 }]);
  platform.consume(takes((batch) => void batch.table('t/').delete('b')), [['temperature', 'b', 7, 2]]);
  assert.ok(!platform.state.has('t/b'));
});
