#!/usr/bin/env node
/** The commands of developers: `node scripts/dev.mjs <command>`, each an npm script. They expect installed packages and say so when there are none. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildWhatIsOld, projectNode, projectRoot, requireInstalled, runHere } from './prepare.mjs';

const tool = (path, ...args) => runHere(projectNode, [join('node_modules', path), ...args]);
const prettier = (...args) => tool('prettier/bin/prettier.cjs', '--log-level', 'warn', ...args, '.');

const commands = {
  build: async () => {
    await buildWhatIsOld();
    return 0;
  },
  typecheck: () => tool('typescript/bin/tsc', '-p', 'tsconfig.json', '--noEmit'),
  lint: () => tool('oxlint/bin/oxlint', '--type-aware', '--deny-warnings'),
  format: () => prettier('--write'),
  'format:check': () => prettier('--check'),
  check: async () => {
    const codes = [];
    for (const name of ['lint', 'typecheck', 'format:check']) codes.push(await announced(name));
    codes.push(await runHere(projectNode, ['scripts/test.mjs', 'tidy']));
    return Math.max(...codes);
  },
  bench,
};

/** All benchmarks, or those that are named. */
async function bench(names) {
  const files = readdirSync(join(projectRoot, 'bench')).filter((file) => file.endsWith('.bench.ts'));
  const all = files.map((file) => file.replace(/\.bench\.ts$/, '')).sort();
  const unknown = names.filter((name) => !all.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`there is no benchmark ${unknown.join(', ')}; there are ${all.join(', ')}\n`);
    return 2;
  }
  await buildWhatIsOld();
  let worst = 0;
  for (const name of names.length > 0 ? names : all) {
    process.stderr.write(`\n=== ${name}\n`);
    worst = Math.max(
      worst,
      await runHere(projectNode, ['--enable-source-maps', `dist/bench/${name}.bench.js`]),
    );
  }
  return worst;
}

async function announced(name) {
  process.stderr.write(`=== ${name}\n`);
  return commands[name]([]);
}

const [name = '', ...rest] = process.argv.slice(2);
if (!(name in commands)) {
  process.stderr.write(`there is no command ${name}; there are ${Object.keys(commands).join(', ')}\n`);
  process.exit(2);
}
requireInstalled();
process.exitCode = await commands[name](rest);
