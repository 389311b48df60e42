// Smooths temperatures, and raises an alarm while one is above a limit.

import { log, setting, takes } from './ironloom/index.js';
import { Outputs } from './ironloom/outputs.js';
import * as alarms from './ironloom/alarms.js';

export const readings = takes((batch) => {
  const limit = Number(setting('limit'));
  const smoothing = Number(setting('smoothing'));
  // What the app remembers of each thermometer. Memory is gone after each call; this stays.
  const thermometers = batch.table('thermometer/');
  const out = new Outputs();
  for (const reading of batch) {
    const { entity, value, time } = reading;
    if (reading.isBad) continue;
    if (value < -273.15) {
      // This one becomes a dead letter, for somebody to look at. The rest goes on.
      reading.refuse(`${value} °C is colder than possible`);
      continue;
    }
    const before = thermometers.get(entity) ?? { smoothed: value, time, tooWarm: false };
    const thermometer = smooth(before, value, time, smoothing);
    thermometer.tooWarm = thermometer.smoothed > limit;
    thermometers.set(entity, thermometer);
    out.derive(reading, 'smoothed', thermometer.smoothed);

    if (thermometer.tooWarm && !before.tooWarm) {
      const message = `${thermometer.smoothed.toFixed(1)} °C, more than ${limit} °C`;
      alarms.raise('too-warm', entity, message);
      log.warn(`${entity} is too warm: ${message}`);
    } else if (!thermometer.tooWarm && before.tooWarm) {
      alarms.clear('too-warm', entity);
    }
  }
  out.publish();
});

/** Moves the smoothed value towards a new one: the more, the longer the last one is ago. */
function smooth(thermometer, temperature, time, smoothing) {
  const seconds = Math.max(time - thermometer.time, 0) / 1000;
  const weight = smoothing > 0 ? 1 - Math.exp(-seconds / smoothing) : 1;
  return {
    smoothed: thermometer.smoothed + weight * (temperature - thermometer.smoothed),
    // Readings can come out of order: time doesn't go back.
    time: Math.max(thermometer.time, time),
  };
}
