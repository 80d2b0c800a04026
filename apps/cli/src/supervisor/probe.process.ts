/** What a gateway of ours answers when it is asked whether it is ready. */
import { get } from 'node:https';

const timeoutMs = 2000;

export interface ReadyAnswer {
  readonly status: number;
  readonly body: string;
}

export async function askReady(base: string): Promise<ReadyAnswer> {
  const url = `${base}/readyz`;
  if (url.startsWith('https:')) return askSecurely(url);
  const answer = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
  return { status: answer.status, body: await answer.text() };
}

/** It is a process that we have started, on this machine, and nothing is sent to it: its certificate, made for the name that others use, does not matter. */
function askSecurely(url: string): Promise<ReadyAnswer> {
  return new Promise((resolve, reject) => {
    const sent = get(
      url,
      { rejectUnauthorized: false, signal: AbortSignal.timeout(timeoutMs), agent: false },
      (answer) => {
        let body = '';
        answer.setEncoding('utf8');
        answer.on('data', (text: string) => (body += text));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }));
        answer.on('error', reject);
      },
    );
    sent.on('error', reject);
  });
}
