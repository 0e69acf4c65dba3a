"""Which guards tor uses: kept, replaced, chosen by what the relays are."""
