import assert from 'node:assert/strict';
import test from 'node:test';
import { Platform } from '../ironloom/testing.js';

const { readings } = await import('../app.js');

const NOON = Date.parse('2026-07-01T12:00:00Z');

test('a change shows by two thirds after the time of smoothing', () => {
  const platform = new Platform();
  platform.set('smoothing', 60);
  const { failure } = platform.consume(readings, [
    ['temperature', 'attic', NOON, 20],
    ['temperature', 'attic', NOON + 60_000, 30],
  ]);
  assert.equal(failure, undefined);
  const [first, second] = platform.values('smoothed', 'attic');
  assert.deepEqual(first, [NOON, 20]);
  assert.ok(Math.abs(second[1] - 26.32) < 0.01, `${second}`); // 1 - 1/e = 0.632…
});

test('the alarm stands while it is too warm', () => {
  const platform = new Platform();
  platform.set('smoothing', 0);
  for (const [minute, temperature, stands] of [[0, 30, false], [1, 30.1, true], [2, 35, true], [3, 29, false]]) {
    platform.consume(readings, [['temperature', 'attic', NOON + minute * 60_000, temperature]]);
    assert.equal(platform.alarm('too-warm', 'attic') !== undefined, stands, `${temperature}`);
  }
});

test('an impossible reading is refused alone', () => {
  const platform = new Platform();
  const { refused } = platform.consume(readings, [
    ['temperature', 'attic', NOON, -300],
    ['temperature', 'cellar', NOON, 12],
  ]);
  assert.deepEqual(refused, [['attic', '-300 °C is colder than possible']]);
  assert.deepEqual(platform.values('smoothed', 'cellar'), [[NOON, 12]]);
});
