import { describeSettings } from '#core/config/settings.ts';
import type { Command } from '../command.ts';

/** The list of commands with all settings, or one command's own help. */
export function help(commands: readonly Command[], args: readonly string[]): number {
  const [name] = args;
  const command = commands.find((one) => one.name === name);
  if (name !== undefined && command === undefined) {
    process.stderr.write(`pgquorum has no command ${name}\n`);
    return 2;
  }
  const lines =
    command === undefined
      ? [
          'pgquorum <command>',
          '',
          ...commands.map((one) => `  ${one.name.padEnd(14)}${one.about}`),
          '',
          'Settings, from the environment or from pgquorum.yaml (the environment wins):',
          ...describeSettings().map((line) => `  ${line}`),
        ]
      : [
          `pgquorum ${command.name}${command.usage === '' ? '' : ` ${command.usage}`}`,
          '',
          `  ${command.about}`,
        ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}
