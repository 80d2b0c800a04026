/** The live page: one file, whose own script and style are the only ones that its policy allows. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '#core/config/project-root.files.ts';

export class Dashboard {
  readonly html: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(file = join(projectRoot, 'apps/gateway/dashboard/index.html')) {
    this.html = readFileSync(file, 'utf8');
    const policy = [
      `default-src 'none'`,
      `script-src ${this.#hashes('script')}`,
      `style-src ${this.#hashes('style')}`,
      `connect-src 'self'`,
      `img-src data:`,
      `base-uri 'none'`,
      `form-action 'none'`,
      `frame-ancestors 'none'`,
    ];
    this.headers = {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': policy.join('; '),
      'referrer-policy': 'no-referrer',
    };
  }

  #hashes(tag: string): string {
    const found = [...this.html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
    return found
      .map((match) => `'sha256-${createHash('sha256').update(match[1]!).digest('base64')}'`)
      .join(' ');
  }
}
