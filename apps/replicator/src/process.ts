/** The replicator process: carries the changes of every master to the nodes that it serves. Ends on SIGTERM or SIGINT after draining. */
import 'reflect-metadata';
import { existsSync, readFileSync } from 'node:fs';
import { loadSettings } from '#core/config/settings.ts';
import { armFaults } from '#core/faults/arm.process.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { Replicator } from './replicator.ts';

/** What still runs after this is cut off: lanes have 10 s to finish what they have, and any of it is done again by the next process. */
const stopWithinMs = 30_000;
const yaml = existsSync('pgquorum.yaml') ? readFileSync('pgquorum.yaml', 'utf8') : undefined;

async function main(): Promise<void> {
  const settings = loadSettings(process.env, yaml);
  const logger = createLogger({ app: 'replicator', level: settings.logLevel });
  const faults = armFaults(process.env);
  if (faults !== null) logger.warn({ faults }, 'faults are armed, for a test');
  const replicator = new Replicator(settings, logger);
  await replicator.start();
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    logger.info({ signal }, 'draining');
    setTimeout(() => {
      logger.error('some loop did not end in time: it is cut off');
      process.exit(1);
    }, stopWithinMs).unref();
    replicator.stop().then(
      () => {
        logger.info('stopped');
        process.exit(0);
      },
      (error: unknown) => {
        logger.fatal({ err: error }, 'the shutdown failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  // Whoever started this process with a channel and is gone can not stop it any more.
  process.on('disconnect', () => stop('disconnect'));
}

export function runProcess(): void {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  });
}
