/** Reads a line of a child's log: pino's JSON, or plain text such as a stack trace of Node. */

export interface LogEntry {
  readonly level: 'warning' | 'error';
  readonly text: string;
}

const warningLevel = 40;
const errorLevel = 50;

/** What people in front of the terminal should see of it; undefined for what is only of interest in the log file. */
export function readLogLine(line: string): LogEntry | undefined {
  if (!line.startsWith('{')) return line.trim() === '' ? undefined : { level: 'warning', text: line };
  let entry: { level?: unknown; msg?: unknown; code?: unknown; err?: { message?: unknown } };
  try {
    entry = JSON.parse(line) as typeof entry;
  } catch {
    return { level: 'warning', text: line }; // cut off in the middle, or not from pino
  }
  const { level } = entry;
  if (typeof level !== 'number' || level < warningLevel) return undefined;
  const message = [entry.msg, entry.err?.message].filter((part) => typeof part === 'string' && part !== '');
  return { level: level >= errorLevel ? 'error' : 'warning', text: [...new Set(message)].join(': ') || line };
}
