#!/usr/bin/env node
/** Runs the `pgquorum` command from the sources of now: `node scripts/run.mjs <command>`, or `npx pgquorum <command>`. */
import { spawn } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildWhatIsOld, projectNode, projectRoot, requireInstalled } from './prepare.mjs';

/**
 * In our process group and with our terminal. Signals are passed on; a Ctrl-C reaches the command twice then, which it takes for one. Sets our exit code
 * to that of the command.
 */
export function runPgquorum(args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(
      projectNode,
      ['--enable-source-maps', join(projectRoot, 'dist/apps/cli/src/main.js'), ...args],
      { stdio: 'inherit', ...options },
    );
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    const passOn = (signal) => child.kill(signal);
    for (const signal of signals) process.on(signal, passOn);
    child.once('error', (cause) => {
      process.stderr.write(`pgquorum cannot be started: ${cause.message}\n`);
      process.exitCode = 1;
      resolve();
    });
    child.once('close', (code, signal) => {
      for (const name of signals) process.off(name, passOn);
      process.exitCode = code ?? (signal === 'SIGKILL' ? 137 : 1);
      resolve();
    });
  });
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  requireInstalled();
  await buildWhatIsOld();
  await runPgquorum(process.argv.slice(2));
}
