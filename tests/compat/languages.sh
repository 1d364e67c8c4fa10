# languages.sh
# shellcheck shell=bash

cases_languages() {
	:
}
