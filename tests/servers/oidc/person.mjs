// A person with a browser: opens pages, keeps cookies, follows redirects, fills in forms.

const STEPS_MAX = 20;

class Browser {
  #cookies = new Map();

  async open(url, form) {
    for (let step = 0; step < STEPS_MAX; step += 1) {
      const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(url, {
        method: form ? 'POST' : 'GET',
        body: form && new URLSearchParams(form),
        headers: { cookie, accept: 'text/html' },
        redirect: 'manual',
      });
      for (const line of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
        if (value) this.#cookies.set(name, value);
        else this.#cookies.delete(name);
      }
      const next = response.headers.get('location');
      const text = await response.text();
      if (!next) return { url, text, status: response.status };
      [url, form] = [new URL(next, url).href, undefined];
    }
    throw new Error('led around in circles');
  }
}

function found(pattern, page) {
  const match = pattern.exec(page.text);
  if (!match) throw new Error(`${page.url} (${page.status}) is not the page expected:\n${page.text}`);
  return match[1];
}

// Opens the verification page and types the code; gives what the confirmation page then needs.
async function typed(browser, verificationPage, userCode) {
  const start = await browser.open(verificationPage);
  const xsrf = found(/name="xsrf" value="([^"]+)"/, start);
  const asked = await browser.open(verificationPage, { xsrf, user_code: userCode });
  return { xsrf: found(/name="xsrf" value="([^"]+)"/, asked), user_code: userCode };
}

export async function confirm(verificationPage, userCode, user) {
  const browser = new Browser();
  const form = await typed(browser, verificationPage, userCode);
  const login = await browser.open(verificationPage, { ...form, confirm: 'yes' });
  const submit = (page) => new URL(found(/<form[^>]*action="([^"]+)"/, page), page.url).href;
  const consent = await browser.open(submit(login), { prompt: 'login', login: user, password: 'any' });
  const end = await browser.open(submit(consent), { prompt: 'consent' });
  found(/(Sign-in Success)/, end);
}

export async function refuse(verificationPage, userCode) {
  const browser = new Browser();
  const form = await typed(browser, verificationPage, userCode);
  await browser.open(verificationPage, { ...form, abort: 'yes' });
}
