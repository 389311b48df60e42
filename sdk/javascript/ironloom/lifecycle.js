// What an app does with the state of an earlier version. The world includes ironloom:platform/lifecycle.

import { log, Reject, Retry } from './index.js';

/** The role of an app that brings what an earlier version stored into its form: `export const migration =
 * migrates((previous, resume) => { … })`. It works on a copy of the state, which the version `previous` wrote, and is called
 * again, with what it returned as `resume`, until it returns nothing. Where it throws, the version before goes on with the
 * old state, and the admin sees the text of a `Reject`. */
export const migrates = (migrate) => ({
  migrate: (previous, resume) => {
    try {
      const next = migrate(previous, resume === undefined ? undefined : JSON.parse(new TextDecoder().decode(resume)));
      return next === undefined ? undefined : new TextEncoder().encode(JSON.stringify(next));
    } catch (error) {
      // Its failure is a text: there is no later try.
      if (error instanceof Reject || error instanceof Retry) throw error.message;
      // A bug ends the call as a trap, which names no line: the log does.
      log.error(`${error}\n${error?.stack ?? ''}`);
      throw error;
    }
  },
});
