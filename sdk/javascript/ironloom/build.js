// Makes the component: node ironloom/build.js OUT.wasm. `ironloom build` runs it.

import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: 'app.js',
  witPath: 'wit',
  worldName: 'app',
  // Both would import wasi:http, which no app may use.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(process.argv[2], component);
