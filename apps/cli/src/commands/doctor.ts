import { preflight } from '#core/postgres/preflight.pg.ts';
import type { PreflightReport } from '#core/postgres/preflight.ts';
import type { Command } from '../command.ts';
import { nodesOf } from '../node-list.ts';
import { readSettings } from '../settings.ts';

export const doctor: Command = {
  name: 'doctor',
  about: 'looks whether the databases can be masters, founded or not, and says what mends what is missing',
  usage: '[--json]',
  async run(args) {
    const foreign = args.filter((arg) => arg !== '--json');
    if (foreign.length > 0) {
      process.stderr.write(`pgquorum doctor takes --json only, but got ${foreign.join(' ')}\n`);
      return 2;
    }
    const settings = readSettings();
    const report = await preflight({
      nodes: nodesOf(settings),
      cluster: settings.cluster,
      log: settings.kafkaBrokers === undefined ? 'wal' : 'kafka',
      clockDriftMaxMs: settings.clockDriftMaxMs,
    });
    process.stdout.write(args.includes('--json') ? `${JSON.stringify(report)}\n` : asText(report));
    return report.ok ? 0 : 1;
  },
};

function asText({ ok, nodes, findings }: PreflightReport): string {
  const lines = nodes.map(({ name, reached, version, pgvector }) =>
    reached
      ? `${name}: Postgres ${Math.floor((version ?? 0) / 10_000)}.${(version ?? 0) % 10_000}, pgvector ${pgvector ?? 'missing'}`
      : `${name}: not reached`,
  );
  for (const { node, check, severity, seen, why, mend } of findings) {
    lines.push('', `${severity.toUpperCase()} ${node} ${check}: ${seen}`, `  ${why}`);
    for (const statement of mend?.statements ?? []) lines.push(`  ${mend!.as}> ${statement};`);
    if (mend?.restart === true) lines.push('  then restart the server');
  }
  lines.push(
    '',
    ok ? 'nothing is in the way' : 'errors have to be mended before replication can be relied on',
  );
  return `${lines.join('\n')}\n`;
}
