// Timers that fire once. The manifest has `schedule = true`; the world includes ironloom:platform/schedule and timers.

import * as schedule from 'ironloom:timers/schedule@0.1.0';
import { fromTime, host } from './index.js';

/** Sets a timer for a time in milliseconds since 1970. */
export const set = (timer, due) => host('schedule', () => schedule.set(timer, fromTime(due)));

/** Cancels a timer. Returns whether there was one. */
export const cancel = (timer) => host('schedule', () => schedule.cancel(timer));
