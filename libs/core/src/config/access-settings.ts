/** Who may call the gateway; a part of the table in settings.ts. */
import { keysMistake } from '../access/api-key.ts';
import { commaList, setting } from './setting.ts';

export const accessSettings = {
  apiKeys: setting(
    'PGQUORUM_API_KEYS',
    commaList.superRefine((entries, context) => {
      const mistake = keysMistake(entries);
      if (mistake !== null) context.addIssue({ code: 'custom', message: mistake });
    }),
    undefined,
    'Comma list of API keys, each as it is or as `name=sha256:<digest>[:<grants>]` (docs/security.md); set = every call but health needs one.',
    { secret: true },
  ),
} as const;
