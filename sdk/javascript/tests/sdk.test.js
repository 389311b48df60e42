// The modules in ironloom/ on the platform in memory. The end-to-end tests run this in an app that `ironloom new` made.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Platform } from '../ironloom/testing.js';

const { Retry, now, rings, store, takes } = await import('../ironloom/index.js');
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
    [() => store.set('k', 'x'.repeat(300_000)), 'too-large'],
  ]) {
    const [platform, { failure }] = run(take);
    assert.equal(failure?.[0], 'reject', words);
    assert.ok(failure[1].includes(words), failure[1]);
    assert.deepEqual([platform.state.size, platform.outputs], [0, []]);
  }
});

test('a retry keeps its reason', () => {
  const [, { failure }] = run(() => {
    throw new Retry('later');
  });
  assert.deepEqual(failure, ['retry', 'later']);
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
