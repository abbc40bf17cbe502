# Completes words of knitctl in bash. Made by `knitctl completion bash`.
_knitctl_complete() {
    local line
    COMPREPLY=()
    while IFS= read -r line || [[ -n $line ]]; do
        COMPREPLY+=("$line")
    done < <(_KNIT_COMPLETE=bash _KNIT_LINE="${COMP_LINE:0:COMP_POINT}" _KNIT_WORD="$2" _KNIT_TYPE="$COMP_TYPE" \
        knitctl 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o nosort -F _knitctl_complete knitctl 2>/dev/null ||
    complete -o bashdefault -F _knitctl_complete knitctl
