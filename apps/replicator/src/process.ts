/** The replicator process: carries the changes of every master to the nodes that it serves. Ends on SIGTERM or SIGINT after draining. */
import 'reflect-metadata';
import { existsSync, readFileSync } from 'node:fs';
import { loadSettings } from '#core/config/settings.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { Replicator } from './replicator.ts';

const yaml = existsSync('pgquorum.yaml') ? readFileSync('pgquorum.yaml', 'utf8') : undefined;

async function main(): Promise<void> {
  const settings = loadSettings(process.env, yaml);
  const logger = createLogger({ app: 'replicator', level: settings.logLevel });
  const replicator = new Replicator(settings, logger);
  await replicator.start();
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    logger.info({ signal }, 'draining');
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
