// Alarms. The manifest has [alarms.NAME], and the world includes ironloom:platform/alarms.

import * as alarms from 'ironloom:alarms/alarms@0.1.0';
import { fromTime, host } from './index.js';

const timeOf = (since) => (since === undefined ? undefined : fromTime(since));

/** Raises an alarm for an entity; '' is the whole installation. `since` says since when things are so, in ms since 1970, or as `reading.at`. */
export const raise = (alarm, entity, message, since) =>
  host('alarms', () => alarms.raise(alarm, entity, message, timeOf(since)));

/** Clears it. Clearing one that isn't active is no error. */
export const clear = (alarm, entity, since) => host('alarms', () => alarms.clear(alarm, entity, timeOf(since)));
