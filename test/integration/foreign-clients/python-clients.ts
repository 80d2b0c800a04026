/**
 * Clients that nobody here wrote: SQLAlchemy with Alembic, and LangChain's store for pgvector, from the Python packages in requirements.txt. They are installed
 * once, into a virtual environment under .cache, by pip as it is set up on this machine.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '#core/config/project-root.files.ts';
import { run } from '#core/embedded/process.os.ts';

const folder = join(projectRoot, 'test/integration/foreign-clients');
const requirements = join(folder, 'requirements.txt');
const installMs = 300_000;

const environment = (): string => {
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  return join(projectRoot, '.cache', `python-clients-${process.platform}-${process.arch}-${hash}`);
};

/** Why the clients can not be run here, or undefined when they can. */
export async function pythonClientsProblem(): Promise<string | undefined> {
  const target = environment();
  if (existsSync(target)) return undefined;
  const making = `${target}.${process.pid}`;
  mkdirSync(join(projectRoot, '.cache'), { recursive: true });
  try {
    const made = await run('python3', ['-m', 'venv', making], { timeoutMs: installMs });
    if (made.code !== 0) return `python3 -m venv: ${lastLine(made.stderr) || 'is not to be had'}`;
    const installed = await run(
      join(making, 'bin/python'),
      [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        '--only-binary=:all:',
        '--no-compile', // of all that is installed little is imported
        '-r',
        requirements,
      ],
      { timeoutMs: installMs },
    );
    if (installed.code !== 0) return `pip install: ${lastLine(installed.stderr)}`;
    renameSync(making, target); // complete, or not there at all
    return undefined;
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';

export type Step = readonly [
  module: 'orm' | 'store',
  verb: string,
  url: string,
  ...rest: (string | number)[],
];

/** Runs steps one after the other in one process; the answer of each. */
export async function runClients(...steps: readonly Step[]): Promise<unknown[]> {
  const answer = await run(
    join(environment(), 'bin/python'),
    [join(folder, 'run.py'), JSON.stringify(steps)],
    {
      timeoutMs: 120_000,
      env: { ...process.env, PYTHONPYCACHEPREFIX: join(environment(), 'pycache') },
    },
  );
  if (answer.code !== 0) throw new Error(answer.stderr.slice(-2000));
  return JSON.parse(answer.stdout) as unknown[];
}
