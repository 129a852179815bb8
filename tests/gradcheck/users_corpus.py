"""All bugs as users make them, and right ops and layers beside them, `CONTROLS`: see `users_planting.py`.

`USERS` has three sets (`bugs_users_*.py`, `bugs_second_*.py`, `bugs_third_*.py`) by people who had not read
the checker; each was measured before the checker was improved on it. `FOURTH` and `FIFTH` are two more such
sets; twenty bugs between two kinds (`bugs_between_kinds.py`) are in `FIFTH` too. `OURS` (`bugs_tuning_*.py`,
`bugs_own_*.py`) was written by the checker's author to improve it on, so it proves nothing.
"""

import bugs_users_losses  # noqa: F401, I001
import bugs_users_norms  # noqa: F401
import bugs_users_products  # noqa: F401
import bugs_users_rest  # noqa: F401
import bugs_users_sequences  # noqa: F401
import bugs_users_state  # noqa: F401
import bugs_second_losses  # noqa: F401
import bugs_second_norms  # noqa: F401
import bugs_second_products  # noqa: F401
import bugs_second_rest  # noqa: F401
import bugs_second_sequences  # noqa: F401
import bugs_second_state  # noqa: F401
import bugs_third_losses  # noqa: F401
import bugs_third_norms  # noqa: F401
import bugs_third_products  # noqa: F401
import bugs_third_rest  # noqa: F401
import bugs_third_sequences  # noqa: F401
from users_planting import RIGHT, WRONG, UserBug

USERS: list[UserBug] = list(WRONG)

import bugs_fourth_losses  # noqa: E402, F401
import bugs_fourth_norms  # noqa: E402, F401
import bugs_fourth_products  # noqa: E402, F401
import bugs_fourth_rest  # noqa: E402, F401
import bugs_fourth_sequences  # noqa: E402, F401
import bugs_fourth_vision  # noqa: E402, F401
import right_fourth  # noqa: E402, F401

FOURTH: list[UserBug] = WRONG[len(USERS) :]

import bugs_between_kinds  # noqa: E402, F401
import bugs_fifth_a  # noqa: E402, F401
import bugs_fifth_b  # noqa: E402, F401
import bugs_fifth_c  # noqa: E402, F401
import right_fifth  # noqa: E402, F401

FIFTH: list[UserBug] = WRONG[len(USERS) + len(FOURTH) :]

import bugs_own_first  # noqa: E402, F401
import bugs_own_mixed  # noqa: E402, F401
import bugs_own_second  # noqa: E402, F401
import bugs_own_vision  # noqa: E402, F401
import bugs_tuning_layers  # noqa: E402, F401
import bugs_tuning_losses  # noqa: E402, F401
import bugs_tuning_products  # noqa: E402, F401
import bugs_tuning_rest  # noqa: E402, F401

OURS: list[UserBug] = WRONG[len(USERS) + len(FOURTH) + len(FIFTH) :]
CONTROLS: list[UserBug] = RIGHT
