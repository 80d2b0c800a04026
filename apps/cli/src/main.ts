/** The `pgquorum` command: finds the command's file and turns its outcome into an exit code (0 done, 1 failed, 2 usage, 3 not reached in time). */
import { isPgquorumError } from '#core/errors/error.ts';
import type { Command } from './command.ts';
import { doctor } from './commands/doctor.ts';
import { dumpSchema } from './commands/dump-schema.ts';
import { help } from './commands/help.ts';
import { migrateNodes } from './commands/migrate.ts';
import { up } from './commands/up.ts';

const commands: readonly Command[] = [up, doctor, migrateNodes, dumpSchema];

async function main(args: readonly string[]): Promise<number> {
  const [name = up.name, ...rest] = args;
  if (['help', '--help', '-h'].includes(name)) return help(commands, rest);
  const command = commands.find((one) => one.name === name);
  if (command === undefined) {
    process.stderr.write(`pgquorum has no command ${name}; pgquorum help lists them\n`);
    return 2;
  }
  if (rest.includes('--help')) return help(commands, [name]);
  return command.run(rest);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (cause) {
  process.exitCode = 1;
  if (isPgquorumError(cause)) process.stderr.write(`pgquorum: ${cause.detail}\n`);
  else process.stderr.write(`pgquorum: ${(cause as Error).stack ?? String(cause)}\n`);
}
