/** What a command of the CLI is: one file in commands/ each. */
export interface Command {
  readonly name: string;
  /** One line for the list. */
  readonly about: string;
  /** What follows the name, for its own help. */
  readonly usage: string;
  /** Answers the exit code. */
  run(args: readonly string[]): Promise<number>;
}

/** For commands that take no arguments: 2 with a message when there are some. */
export function refuseArguments(command: string, args: readonly string[]): number | undefined {
  if (args.length === 0) return undefined;
  process.stderr.write(`pgquorum ${command} takes no arguments, but got ${args.join(' ')}\n`);
  return 2;
}
