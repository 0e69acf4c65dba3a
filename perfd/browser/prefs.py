"""Firefox's preferences for measuring: it makes no request of its own, and sends nothing past its proxy.

Firefox sets many of these itself when it is driven (``remote.prefs.recommended``); they stand here all the same, so
that its silence does not hang on that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

Prefs = Mapping[str, str | int | bool]

_NOTHING_AT_START: Prefs = {
    "app.normandy.api_url": "",
    "app.normandy.enabled": False,
    "app.shield.optoutstudies.enabled": False,
    "browser.aboutConfig.showWarning": False,
    "browser.backup.enabled": False,
    "browser.ml.enable": False,
    "browser.newtabpage.activity-stream.feeds.system.topstories": False,
    "browser.newtabpage.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "browser.startup.page": 0,
    "nimbus.rollouts.enabled": False,
    "toolkit.startup.max_resumed_crashes": -1,
}

_NO_UPDATES: Prefs = {
    "app.update.auto": False,
    "app.update.disabledForTesting": True,
    "app.update.enabled": False,
    "browser.search.update": False,
    "extensions.blocklist.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "media.gmp-gmpopenh264.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": "data:text/plain,",
    "media.gmp-provider.enabled": False,
    # Release builds obey this one only with MOZ_REMOTE_SETTINGS_DEVTOOLS=1 in their environment.
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "services.settings.loglevel": "off",
    "services.settings.poll_interval": 31536000,
}

_NO_HOUSEKEEPING: Prefs = {
    # What a person would have of a page besides the page. Nothing of it is sent, but it takes a sixth of the
    # processor time of a load. Lists for tracking protection are not there, since they would have to be fetched.
    "accessibility.force_disabled": 1,
    "browser.pagethumbnails.capturing_disabled": True,
    "browser.places.speculativeConnect.enabled": False,
    "browser.sessionstore.interval": 3600000,
    "browser.sessionstore.max_tabs_undo": 0,
    "browser.tabs.remote.separatePrivilegedContentProcess": False,
    "browser.translations.enable": False,
    "browser.urlbar.suggest.history": False,
    "cookiebanners.service.mode": 0,
    "dom.forms.autocomplete.formautofill": False,
    "extensions.formautofill.addresses.enabled": False,
    "layout.spellcheckDefault": 0,
    "places.history.enabled": False,
    "privacy.trackingprotection.enabled": False,
    "privacy.trackingprotection.pbmode.enabled": False,
    "reader.parse-on-load.enabled": False,
    "signon.rememberSignons": False,
}

_NO_REPORTS: Prefs = {
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "datareporting.usage.uploadEnabled": False,
    "toolkit.telemetry.archive.enabled": False,
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "toolkit.telemetry.server": "data:,",
    "toolkit.telemetry.unified": False,
}

_NO_LOOKUPS: Prefs = {
    "browser.chrome.site_icons": False,  # /favicon.ico would be fetched after the page's load
    "browser.discovery.enabled": False,
    "browser.region.network.url": "",
    "browser.region.update.enabled": False,
    "browser.safebrowsing.blockedURIs.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.topsites.contile.enabled": False,
    "captivedetect.canonicalURL": "",
    "dom.push.connection.enabled": False,
    "dom.push.enabled": False,
    "geo.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "security.OCSP.enabled": 0,
    "security.certerrors.mitm.priming.enabled": False,
    "security.remote_settings.crlite_filters.enabled": False,
    "security.remote_settings.intermediates.enabled": False,
}

_NO_GUESSES: Prefs = {
    "browser.fixup.alternate.enabled": False,
    "dom.security.https_first": False,  # what is measured is the address that was asked for
    "dom.security.https_first_schemeless": False,
    "keyword.enabled": False,
    # By default a second connection is opened when the first takes more than 250 ms, as it always does over Tor.
    "network.http.connection-retry-timeout": 0,
    "network.http.speculative-parallel-limit": 0,
    "network.predictor.enabled": False,
    "network.prefetch-next": False,
}

_NOTHING_PAST_THE_PROXY: Prefs = {
    "media.peerconnection.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.dns.disablePrefetchFromHTTPS": True,
    "network.dns.native_https_query": False,
    "network.dns.use_https_rr_as_altsvc": False,
    "network.proxy.allow_bypass": False,  # by default, failed requests of Firefox's own go directly, DNS included
    "network.proxy.allow_hijacking_localhost": True,
    "network.proxy.failover_direct": False,
    "network.proxy.no_proxies_on": "",
    "network.proxy.socks": "127.0.0.1",
    # Every page load has a proxy of its own; what belongs to none of them must go nowhere.
    "network.proxy.socks_port": 9,
    "network.proxy.socks5_remote_dns": True,
    "network.proxy.socks_remote_dns": True,
    "network.proxy.socks_version": 5,
    "network.proxy.type": 1,
    "network.trr.mode": 5,
}

_MEASURING: Prefs = {
    "dom.max_script_run_time": 0,  # the page's deadline ends a busy script, not Firefox's
    "privacy.reduceTimerPrecision": False,
}

PREFS: Prefs = MappingProxyType(
    {
        **_NOTHING_AT_START,
        **_NO_UPDATES,
        **_NO_HOUSEKEEPING,
        **_NO_REPORTS,
        **_NO_LOOKUPS,
        **_NO_GUESSES,
        **_NOTHING_PAST_THE_PROXY,
        **_MEASURING,
    }
)
"""What every Firefox of Perfd runs with."""


def user_js(prefs: Prefs) -> str:
    """The text of a profile's ``user.js``, which Firefox reads at every start."""
    return "".join(
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in sorted(prefs.items())
    )
