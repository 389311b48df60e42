// Stands in for the host's functions while an app is tested in Node: each calls the platform of the test.

const FUNCTIONS = {
  'ironloom:state/state': ['get', 'set', 'delete', 'getRows', 'setRows', 'scan'],
  'ironloom:invocation/invocation': ['now'],
  'ironloom:outputs/outputs': ['publish'],
  'ironloom:alarms/alarms': ['raise', 'clear'],
  'ironloom:timers/schedule': ['set', 'cancel'],
  'wasi:config/store': ['get'],
  'wasi:logging/logging': ['log'],
};

export async function resolve(specifier, context, next) {
  const name = specifier.split('@')[0];
  return name in FUNCTIONS ? { url: `ironloom-host:${name}`, shortCircuit: true } : next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.startsWith('ironloom-host:')) return next(url, context);
  const name = url.slice('ironloom-host:'.length);
  const short = name.split('/')[1];
  const functions = FUNCTIONS[name].map(
    (one) => `const ${one}_ = (...given) => globalThis.ironloomPlatform('${short}', '${one}', given);\nexport { ${one}_ as ${one} };`,
  );
  return { format: 'module', shortCircuit: true, source: functions.join('\n') };
}
